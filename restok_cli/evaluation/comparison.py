"""`restok evaluate --compare`: whether one result is better than another."""

import json
from pathlib import Path

from restok_cli.console import note, say
from restok_cli.errors import RestokError
from restok_cli.metrics.compare import compare_results, comparison_remarks, comparison_table, read_result


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
