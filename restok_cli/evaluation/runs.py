"""Runs of one method with other seeds: their mean, their spread, and the 95 % interval of the mean."""

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev

from restok_cli.console import columns
from restok_cli.errors import RestokError, UsageError
from restok_cli.evaluation.request import Limit
from restok_cli.evaluation.result import show
from restok_cli.metrics.compare import compare_results, read_result
from restok_cli.metrics.intervals import mean_interval
from restok_cli.metrics.protocol import Measurement, metrics_report
from restok_cli.metrics.table import LEVEL, interval_text, metric_of, unusual_features


@dataclass(frozen=True)
class RunsMeasurement(Measurement):
    """The mean over runs, each of n images."""

    n_runs: int = 0
    std: float = 0.0  # of the runs, not of their mean
    values: tuple[float, ...] = ()  # of each run

    @property
    def interval_method(self) -> str:
        return f"{LEVEL * 100:g} % for the mean of endlessly many such runs: Student's t"


def read_runs(files: list[str]) -> dict[str, dict]:
    """The results in at least two files of `restok evaluate --json`, each of one run.

    Raises UsageError where there are fewer or one has several runs, RestokError where one is no result.
    """
    if len(set(files)) < max(2, len(files)):
        raise UsageError("--runs takes the results of two or more runs, each once, such as a.json b.json")
    missing = next((file for file in files if not Path(file).is_file()), None)
    if missing is not None:
        raise UsageError(f"{missing}: no such file; give what `restok evaluate … --json > FILE` wrote")
    results = {file: read_result(Path(file)) for file in files}
    joined = next((file for file, result in results.items() if "runs" in result), None)
    if joined is not None:
        raise UsageError(f"{joined} is of several runs already; give the result of each run")
    return results


def show_runs(results: dict[str, dict], limits: list[Limit], as_json: bool) -> None:
    """Print mean and spread of results by name. Raises as `over_runs` and `check_limits` do."""
    measurements, protocol = over_runs(results)
    # can be read as the result of one run can
    report = {"runs": list(results.values()), "metrics": metrics_report(measurements), "protocol": protocol}
    show(report, runs_table(list(results), measurements, protocol), measurements, limits, as_json)


def over_runs(results: dict[str, dict]) -> tuple[dict[str, RunsMeasurement], dict]:
    """The mean of each metric over at least two results by name, and what their protocols have in common.

    Raises RestokError where they were not measured alike, or two are of the same images.
    """
    (first_name, first), *others = results.items()
    for name, result in others:
        _check_alike(first_name, first, name, result)
    for (a, one), (b, other) in combinations(results.items(), 2):
        if _identity(one) and _identity(one) == _identity(other):
            raise RestokError(f"{a} and {b} hold the same images, where runs differ by their seeds; give each run once")
    measurements = {name: _mean(name, list(results.values())) for name in first["metrics"]}
    return measurements, _shared([result["protocol"] for result in results.values()])


def runs_table(names: list[str], measurements: dict[str, RunsMeasurement], protocol: dict) -> list[str]:
    """The result for people: a line for each run, a column for each metric, and below them what they come to."""
    found = list(measurements.values())
    rows = [("run", *(each.label for each in found))]
    rows += [(name, *(f"{each.values[i]:.6g}" for each in found)) for i, name in enumerate(names)]
    rows.append(("mean", *(f"{each.value:.6g}" for each in found)))
    rows.append(("standard deviation", *(f"{each.std:.3g}" for each in found)))
    rows.append(("95 % interval", *(interval_text(each.interval) for each in found)))
    against = [f"against {protocol['reference']['source']}"] if protocol.get("reference") else []
    return columns(rows, "<>") + against


def _check_alike(a: str, one: dict, b: str, other: dict) -> None:
    """Raises RestokError where two results are not by the same metrics and the same protocol."""
    if one["metrics"].keys() != other["metrics"].keys():
        metrics = [", ".join(result["metrics"]) for result in (one, other)]
        raise RestokError(
            f"{a} was measured by {metrics[0]}, {b} by {metrics[1]}; measure all runs by the same metrics"
        )
    unlike = dict.fromkeys(what for row in compare_results(one, other) for what in row.differences)
    if unlike:
        raise RestokError(f"{a} and {b} are not runs of one method, since these were not the same: {'; '.join(unlike)}")


def _identity(result: dict) -> list[object]:
    """Fingerprints of a run's images or codes and of the models behind its numbers; [] where the result has none."""
    protocol = result["protocol"]
    samples = protocol["samples"].get("fingerprint")
    return [samples, *(protocol.get(f"{model}_fingerprint") for model in ("model", "tokenizer"))] if samples else []


def _mean(name: str, results: list[dict]) -> RunsMeasurement:
    facts = [result["metrics"][name] for result in results]
    values = tuple(fact["value"] for fact in facts)
    levels = zip(*(fact.get("levels", ()) for fact in facts), strict=False)  # as many, by the protocol
    return RunsMeasurement(
        metric_of(name),
        fmean(values),
        facts[0]["n"],
        facts[0]["n_reference"],
        levels=tuple(map(fmean, levels)),
        interval=mean_interval(values),
        caveat=facts[0]["caveat"],
        features=unusual_features(name, results[0]["protocol"]),
        setting=facts[0].get("setting", ""),
        n_runs=len(values),
        std=stdev(values),
        values=values,
    )


def _shared(protocols: list[dict]) -> dict:
    """The part that all have in common, and the sources of all."""
    shared = {}
    for key, value in protocols[0].items():
        values = [protocol.get(key) for protocol in protocols]
        parts = [each for each in values if isinstance(each, dict)]
        if len(parts) == len(values):
            shared[key] = _shared(parts)
        elif all(each == value for each in values):
            shared[key] = value
        elif key == "source":
            shared[key] = ", ".join(dict.fromkeys(map(str, values)))
    return shared
