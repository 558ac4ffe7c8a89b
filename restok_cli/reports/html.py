"""One HTML file that shows runs: all that it needs is inside it."""

import base64
import io
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import yaml
from jinja2 import Environment, StrictUndefined

from restok_cli.console import duration
from restok_cli.data.image_files import read_image
from restok_cli.errors import ImageError, RestokError
from restok_cli.files import write_text
from restok_cli.metrics.table import METRICS, metric_of
from restok_cli.reports.charts import HEIGHT, LEFT, RIGHT, WIDTH, Chart, Line, draw_chart, draw_ladder, short
from restok_cli.reports.curves import NO_CURVES
from restok_cli.reports.report_inputs import MARK, MOST_RUNS
from restok_cli.reports.results import Alike, find_results, measured_alike
from restok_cli.reports.runs import RunFacts, read_runs
from restok_cli.settings.yaml_file import flatten

MOST_PREVIEWS = 9  # of a run; of more, some spread over its steps
MOST_BYTES = 500_000  # of an image that is shown as it is
QUALITY = 90  # of the WebP that a larger one becomes
TITLES = {"tokenizer": "Tokenizer", "har": "Generator"}
LEVEL = re.compile(r"(.+)_level_(\d+)")
VALIDATION = "validation_"
# The last group takes what no other names.
GROUPS = {
    "Codebook": re.compile(r"(validation_)?(codebook_\w+|batch_usage|dead_codes|(usage|perplexity)_level_\d+)"),
    "Steps": re.compile(r"learning_rate|images_per_second|data_wait|skipped_steps|(\w+_)?grad_norm"),
    "Learning": re.compile(r".*"),
}
NOTES = {
    "Codebook": "Counted over the codes between two log lines, and over the whole validation split. A level with few "
    "codes an image cannot use many codewords in so short a time.",
}


class Preview(NamedTuple):
    step: int
    data: str  # a data URI


class Chapter(NamedTuple):
    """Runs of one kind."""

    title: str
    kind: str
    runs: list[RunFacts]
    differing: dict[str, list[object]]  # dotted keys that are not the same in all, with the value in each
    groups: dict[str, list[Chart]]
    previews: list[list[Preview]]  # of each run


def write_report(runs: Sequence[Path], metrics: Sequence[Path], path: Path, refresh: int | None = None) -> bool:
    """Write the report of runs, and of results of `restok evaluate` in `metrics` and in their folders, to `path`.

    With `refresh`, a browser loads it again after so many seconds while a run has steps to do. Return whether one has.

    Raises UsageError as `check_runs` does, and RestokError where something is damaged.
    """
    results = find_results(runs, metrics)
    facts = read_runs(runs)
    alike = measured_alike(results)
    unfinished = not all(run.has_ended for run in facts)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"short": short, "duration": duration, "yaml": as_yaml}
    template = environment.from_string((files("restok_cli") / "assets" / "report.html.j2").read_text(encoding="utf-8"))
    text = template.render(
        refresh=refresh if unfinished else None,
        mark=MARK,
        title=" · ".join(run.name for run in facts),
        chapters=[make_chapter(kind, found) for kind in TITLES if (found := [r for r in facts if r.kind == kind])],
        runs=facts,
        results=results,
        alike=alike,
        ladders=list(ladders(alike)),
        notes=NOTES,
        paper={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT},
        version=version("restok"),
        now=datetime.now(),
    )
    write_text(path, text)
    return unfinished


def make_chapter(kind: str, runs: list[RunFacts]) -> Chapter:
    flat = [flatten(run.config.model_dump(mode="json")) for run in runs]
    keys = dict.fromkeys(key for values in flat for key in values)
    rows: dict[str, list[object]] = {key: [values.get(key) for values in flat] for key in keys}
    differing = {key: row for key, row in rows.items() if any(value != row[0] for value in row)}
    return Chapter(TITLES[kind], kind, runs, differing, make_groups(runs), [make_previews(run) for run in runs])


def make_groups(runs: list[RunFacts]) -> dict[str, list[Chart]]:
    """Charts of all that runs have logged; training and validation of one number share one, so do all levels."""
    titles: dict[str, dict[str, None]] = {group: {} for group in ("Learning", "Codebook", "Steps")}
    for name in dict.fromkeys(name for run in runs for name in run.curves if name not in NO_CURVES):
        group = next(group for group, pattern in GROUPS.items() if pattern.fullmatch(name))
        titles[group][LEVEL.sub(r"\1_level", name).removeprefix(VALIDATION)] = None
    validated = {name.removeprefix(VALIDATION) for run in runs for name in run.curves if name.startswith(VALIDATION)}
    groups = {}
    for group, names in titles.items():
        levels = [name for name in names if name.endswith("_level")]
        ordered = sorted((name for name in names if name not in levels), key=lambda name: name not in validated)
        charts = [number_chart(name, runs) for name in ordered]
        groups[group] = charts + [chart for name in levels for chart in level_charts(name, runs)]
    return {group: charts for group, charts in groups.items() if charts}


def number_chart(name: str, runs: list[RunFacts]) -> Chart:
    """A number of each run, in training and, dashed, in validation."""
    sources = {name: "training", VALIDATION + name: "validation"}
    logged = [full for full in sources if any(full in run.curves for run in runs)]
    lines = []
    for number, run in enumerate(runs):
        for full in (full for full in logged if full in run.curves):
            names = [run.name] * (len(runs) > 1) + [sources[full]] * (len(logged) > 1)
            colour = f"var(--run-{number})"
            lines.append(Line(", ".join(names) or "last", *run.curves[full], colour, dashed=full != logged[0]))
    return draw_chart(plain(logged[0]), lines)


def level_charts(name: str, runs: list[RunFacts]) -> Iterator[Chart]:
    """A chart for each run, with a line for each level: the finer the darker."""
    base = name.removesuffix("_level")
    for run in runs:
        for full in (base, VALIDATION + base):
            found = {int(m[2]): key for key in run.curves if (m := LEVEL.fullmatch(key)) and m[1] == full}
            lines = []
            for place, level in enumerate(sorted(found)):
                share = round(100 * place / max(len(found) - 1, 1))
                colour = f"color-mix(in oklab, var(--fine) {share}%, var(--coarse))"
                lines.append(Line(f"level {level}", *run.curves[found[level]], colour))
            if lines:
                yield draw_chart(plain(full) + " by level" + (f": {run.name}" if len(runs) > 1 else ""), lines)


def ladders(alike: list[Alike]) -> Iterator[Chart]:
    """Metrics against the number of codes that images were decoded from, of what was measured so."""
    for row in alike:
        lines = []
        for number, result in enumerate(row.results):
            if lengths := [length for length in result.by_num_codes if length is not None]:
                facts = [found["metrics"][result.keys[row.metric]] for found in result.by_num_codes.values()]
                values, bounds = ([fact.get(key) for fact in facts] for key in ("value", "interval"))
                lines.append(Line(result.name, lengths, values, f"var(--run-{number % MOST_RUNS})", bounds=bounds))
        if lines:
            unit = f", {row.unit}" if row.unit else ""
            better = "higher" if METRICS[metric_of(row.metric)].higher_is_better else "lower"
            yield draw_ladder(f"{row.name}{unit} ({better} is better)", lines)


def make_previews(run: RunFacts) -> list[Preview]:
    """Some of a run's previews, the first and the last among them."""
    count = min(len(run.previews), MOST_PREVIEWS)
    places = [round(i * (len(run.previews) - 1) / max(count - 1, 1)) for i in range(count)]
    return [Preview(step, image_uri(file)) for step, file in (run.previews[place] for place in places)]


def image_uri(file: Path) -> str:
    """An image as a data URI. Raises RestokError where it cannot be read."""
    try:
        data, form = file.read_bytes(), "png"
        image = read_image(data, file.name)
        if len(data) > MOST_BYTES:
            packed, form = io.BytesIO(), "webp"
            image.save(packed, "webp", quality=QUALITY)
            data = packed.getvalue()
    except (OSError, ImageError) as error:
        raise RestokError(f"{file} cannot be read ({error}); delete it") from error
    return f"data:image/{form};base64,{base64.b64encode(data).decode()}"


def plain(name: str) -> str:
    """The name of a number, for people."""
    return name.replace("_", " ")


def as_yaml(value: object) -> str:
    """A config or a protocol as YAML, a single value in one line."""
    block = isinstance(value, dict)
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=float("inf"), default_flow_style=not block)
    return text.removesuffix("...\n").strip()
