"""The result of `restok tune`: what was measured, what may be concluded, as a table, as JSON and as a preset."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from restok_cli.data.image_folders import IMAGE_REQUEST
from restok_cli.errors import UsageError
from restok_cli.files import LEFTOVER, check_apart, check_output_folder, whole_file
from restok_cli.inference.tune_search import Conclusion, Gap, options_text, stated
from restok_cli.metrics.protocol import Measurement, metrics_report, versions
from restok_cli.metrics.table import METRICS
from restok_cli.model.guidance import SamplingOptions
from restok_cli.processes import rank

FEATURES, RESULT_FILE, PRESET_FILE = "features", "result.json", "preset.yaml"
OWN_FILES = re.compile(rf"{FEATURES}/[^/]+-seed\d+-\d+-\d+\.npy|{IMAGE_REQUEST}|{RESULT_FILE}|{PRESET_FILE}")

Measured = dict[SamplingOptions, dict[str, Measurement]]


class Tuning(NamedTuple):
    """The result of a search."""

    metric: str
    rungs: list[Measured]
    fresh: Measured  # the best of the search, its neighbours and the default, on fresh seeds
    winner: SamplingOptions  # of the search
    default: SamplingOptions  # options that are taken where nobody asks for others
    conclusion: Conclusion
    in_pairs: bool  # whether differences are of pairs of images; else they are taken as independent
    protocol: dict[str, Any]


def verdict(tuning: Tuning) -> str:
    """The conclusion, as a word."""
    if not tuning.conclusion.is_known:
        return "unknown"
    return "inconclusive" if len(tuning.conclusion.tied) > 1 else "better"


def conclusion_text(tuning: Tuning) -> str:
    """The conclusion, as a sentence."""
    label, found = METRICS[tuning.metric].label, tuning.conclusion
    match verdict(tuning):
        case "unknown":
            return f"no interval of {label} is known, so nobody knows what the differences mean; the best is chosen"
        case "better":
            return f"better than all others on fresh seeds: {options_text(found.best)}"
        case _:
            return (
                f"inconclusive: on fresh seeds {len(found.tied) - 1} of {len(found.gaps)} cannot be told from the best;"
                f" chosen is the mildest guidance of these: {options_text(found.chosen)}"
            )


def tuning_report(tuning: Tuning) -> dict[str, Any]:
    """The result as one JSON-ready object."""

    def entries(measured: Measured) -> list[dict[str, Any]]:
        return [
            {"options": stated(options), "metrics": metrics_report(measurements)}
            for options, measurements in measured.items()
        ]

    fresh, gaps = entries(tuning.fresh), tuning.conclusion.gaps
    for entry, options in zip(fresh, tuning.fresh, strict=True):
        value, reach = gaps.get(options, Gap(0.0, 0.0))
        entry["behind_best"] = {"value": value, "interval": None if reach is None else [value - reach, value + reach]}
    return {
        "metric": tuning.metric,
        "conclusion": verdict(tuning),
        "differences": "in pairs" if tuning.in_pairs else "as independent",
        "preset": stated(tuning.conclusion.chosen),
        "best": stated(tuning.conclusion.best),
        "tied": list(map(stated, tuning.conclusion.tied)),
        "winner_of_search": stated(tuning.winner),
        "default": stated(tuning.default),
        "fresh": fresh,
        "search": list(map(entries, tuning.rungs)),
        "protocol": tuning.protocol | {"versions": versions()},
    }


def tuning_table(tuning: Tuning) -> list[str]:
    """The result for people, in lines: the best of each rung, then all that was measured on fresh seeds."""
    higher = METRICS[tuning.metric].higher_is_better
    lines = [f"the search, seed {tuning.protocol['seed']}: {'higher' if higher else 'lower'} is better"]
    for rung in tuning.rungs:
        best = (max if higher else min)(rung, key=lambda options: rung[options][tuning.metric].value)
        found = rung[best][tuning.metric]
        lines.append(f"  best of {len(rung):>4}  {found.label:<24} {found.value:>8.4g}  {options_text(best)}")
    lines.append(f"fresh seeds, seed {tuning.protocol['fresh_seed']}:")
    labels = [found.label for found in tuning.fresh[tuning.winner].values()]
    rows = [[*labels, "behind the best", "", ""]]
    for options, measurements in sorted(
        tuning.fresh.items(), key=lambda entry: entry[1][tuning.metric].value, reverse=higher
    ):
        cells = [f"{found.value:.4g}{_interval_text(found)}" for found in measurements.values()]
        gap = tuning.conclusion.gaps.get(options)
        behind = "" if gap is None else f"{gap.value:.3g}"
        if gap is not None and gap.reach is not None:
            behind += f" ± {gap.reach:.3g}"
        remarks = {"chosen": tuning.conclusion.chosen, "found": tuning.winner, "default": tuning.default}
        roles = ", ".join(word for word, whose in remarks.items() if options == whose)
        rows.append([*cells, behind, options_text(options), roles])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines += [
        "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    if tuning.conclusion.is_known and not tuning.in_pairs:
        lines.append(
            f"{METRICS[tuning.metric].label} does not say what each image changes in it: differences are taken as those"
            " of independent images, which is too wide"
        )
    return [*lines, conclusion_text(tuning)]


def _interval_text(measurement: Measurement) -> str:
    return " [{:.4g}, {:.4g}]".format(*measurement.interval) if measurement.interval else ""


def write_result(tuning: Tuning, output: Path) -> None:
    """Write result.json, and the options that were chosen as preset.yaml."""
    with whole_file(output / RESULT_FILE) as temporary:
        text = json.dumps(tuning_report(tuning), ensure_ascii=False, indent=1, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    found = tuning.fresh[tuning.conclusion.chosen][tuning.metric]
    lines = [
        f"# found by `restok tune`: {found.label} {found.value:.4g}{_interval_text(found)}",
        f"# {conclusion_text(tuning)}",
    ]
    lines += [f"{name}: {value}" for name, value in stated(tuning.conclusion.chosen).items()]
    with whole_file(output / PRESET_FILE) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def check_folder(output: Path, resume: bool, overwrite: bool, models: Sequence[Path]) -> None:
    """Raises UsageError where the search has no folder of its own."""
    check_apart(output, *models)
    if rank() == 0 and not resume and not overwrite and (output / IMAGE_REQUEST).is_file():
        raise UsageError(f"{output} holds a search already; --resume goes on with it, --overwrite begins anew")
    if rank() == 0:
        check_output_folder(output, resume or overwrite, is_ours)


def is_ours(name: str) -> bool:
    """Whether `tune` made this file of its folder, whole or not."""
    leftover = LEFTOVER.fullmatch(Path(name).name)
    return bool(OWN_FILES.fullmatch(str(Path(name).with_name(leftover["name"])) if leftover else name))
