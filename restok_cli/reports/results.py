"""Results of `restok evaluate` beside each other: in one row only what was measured alike."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from restok_cli.console import note
from restok_cli.errors import RestokError
from restok_cli.metrics.compare import ComparedMetric, compare_metric, coverage, read_results
from restok_cli.metrics.table import METRICS, full_key, labelled, metric_of, unusual_features


class Result(NamedTuple):
    """One file of results: of one measurement, or of one for each number of codes."""

    name: str
    by_num_codes: dict[int | None, dict]  # None where there is only one

    @property
    def whole(self) -> dict:
        """The result, of all codes where there are several."""
        return list(self.by_num_codes.values())[-1]

    @property
    def keys(self) -> dict[str, str]:
        """Those of its metrics, by themselves with the network, which is how metrics of several results are told."""
        return {full_key(key, self.whole["protocol"]): key for key in self.whole["metrics"]}

    def fact(self, metric: str) -> dict:
        return self.whole["metrics"][self.keys[metric]]


class Alike(NamedTuple):
    """One metric of those results whose numbers can be compared."""

    metric: str  # its key with the network
    name: str  # with its n
    results: list[Result]
    differences: tuple[str, ...]  # from the first that were measured otherwise; empty where there are none such

    def fact(self, result: Result) -> dict | None:
        """Value, interval and more of a result; None of those that are not here."""
        return result.fact(self.metric) if result in self.results else None

    def comparison(self, result: Result) -> ComparedMetric | None:
        """A result beside the first one; None of the first itself, and of those that are not here."""
        return _compare(self.metric, self.results[0], result) if result in self.results[1:] else None

    @property
    def coverage(self) -> str:
        """A caveat on the intervals of the differences, or ""."""
        return coverage([row for result in self.results if (row := self.comparison(result))])

    @property
    def unit(self) -> str:
        return METRICS[metric_of(self.metric)].unit

    @property
    def definition(self) -> str:
        return METRICS[metric_of(self.metric)].definition


def find_results(runs: Sequence[Path], files: Sequence[Path]) -> list[Result]:
    """Results that lie in the folders of runs, and those in `files`, each once and named so that they differ.

    A .json in a run's folder that is no result is passed over, and that is said. Raises RestokError where one of
    `files` is none.
    """
    found: dict[Path, dict[int | None, dict]] = {}
    for run in runs:
        for file in sorted(run.glob("*.json")):
            try:
                found[file] = read_results(file)
            except RestokError as error:
                note(f"left out: {error}")
    known = {file.resolve() for file in found}
    found |= {file: read_results(file) for file in files if file.resolve() not in known}
    names = [file.stem for file in found]
    if len(set(names)) < len(names):
        names = [f"{file.resolve().parent.name}/{file.stem}" for file in found]
    if len(set(names)) < len(names):
        names = [str(file) for file in found]
    return [Result(name, by_num_codes) for name, by_num_codes in zip(names, found.values(), strict=True)]


def measured_alike(results: Sequence[Result]) -> list[Alike]:
    """Each metric of each result, those together that were measured by the same protocol."""
    rows: list[Alike] = []
    metrics = dict.fromkeys(metric for result in results for metric in result.keys)
    order = list(METRICS)
    for metric in sorted(metrics, key=lambda key: order.index(metric_of(key))):
        of_metric: list[Alike] = []
        for result in (result for result in results if metric in result.keys):
            differences: tuple[str, ...] = ()
            for row in of_metric:
                unlike = _compare(metric, row.results[0], result).differences
                if not unlike:
                    row.results.append(result)
                    break
                differences = differences or unlike
            else:
                features = unusual_features(result.keys[metric], result.whole["protocol"])
                of_metric.append(Alike(metric, labelled(result.fact(metric)["name"], features), [result], differences))
        rows += of_metric
    return rows


def _compare(metric: str, one: Result, other: Result) -> ComparedMetric:
    return compare_metric(one.whole, one.keys[metric], other.whole, other.keys[metric])
