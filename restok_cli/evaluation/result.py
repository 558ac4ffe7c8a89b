"""Results of evaluations: what is printed of them, as JSON and for people."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from restok_cli.console import note, say
from restok_cli.errors import RestokError
from restok_cli.evaluation.request import Limit, check_limits
from restok_cli.metrics.compare import compare_results, comparison_remarks, comparison_table, read_result
from restok_cli.metrics.protocol import Measurement, metrics_report, remarks, report, table, versions
from restok_cli.metrics.table import interval_text

Curve = dict[int, dict[str, Measurement]]  # by the number of codes


class Evaluation(NamedTuple):
    """Measurements, and the protocol that made them. Of several processes, only number 0 has measurements."""

    measurements: dict[str, Measurement]
    protocol: dict[str, Any]
    per_image: dict[str, dict[str, float]] | None = None  # by metric and image, where that was asked for
    curve: Curve | None = None  # where prefixes were asked for, the longest of which `measurements` has

    def report(self) -> dict:
        """The result as one JSON-ready object; a curve is {"curve": [{"num_codes": 1, "metrics": {...}}, ...], ...}."""
        if self.curve:
            steps = [{"num_codes": length, "metrics": metrics_report(self.curve[length])} for length in self.curve]
            return {"curve": steps, "protocol": self.protocol | {"versions": versions()}}
        found = report(self.measurements, self.protocol)
        return found | {"per_image": self.per_image} if self.per_image else found

    def lines(self, reference: str) -> list[str]:
        """The result for people."""
        return curve_table(self.curve) if self.curve else table(self.measurements, reference)


def curve_table(curve: Curve) -> list[str]:
    """A line per prefix length, a column per metric."""
    rows = [("codes", *(measurement.label for measurement in next(iter(curve.values())).values()))]
    for length, measurements in curve.items():
        found = measurements.values()
        rows.append((str(length), *(f"{each.value:.6g} {interval_text(each.interval)}".rstrip() for each in found)))
    widths = [6, *(max(14, *(len(row[place]) for row in rows)) for place in range(1, len(rows[0])))]
    return [" ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]


def show(
    report: dict, lines: list[str], measurements: Mapping[str, Measurement], limits: list[Limit], as_json: bool
) -> None:
    """Print a result, and on stderr what is to be known of its numbers. Raises as `check_limits` does."""
    if as_json:
        print(json.dumps(report, indent=2, allow_nan=False))
    else:
        say(*lines)
    for line in remarks(list(measurements.values())):
        note(line)
    check_limits(limits, measurements)


def show_comparison(a: Path, b: Path, as_json: bool) -> None:
    """Print two results side by side. Raises RestokError where their protocols are unlike."""
    rows = compare_results(read_result(a), read_result(b))
    remarks = comparison_remarks(rows)
    if as_json:
        facts = {row.metric: row._asdict() | {"verdict": row.verdict} for row in rows}
        print(json.dumps({"metrics": facts, "remarks": remarks}, indent=2))
    else:
        say(*comparison_table(rows, (str(a), str(b))))
    for line in remarks:
        note(line)
    unlike = [row for row in rows if row.differences]
    if unlike:
        what = dict.fromkeys(difference for row in unlike for difference in row.differences)
        names = ", ".join(row.name for row in unlike)
        raise RestokError(f"{names} cannot be compared, since these were not the same: {'; '.join(what)}")
