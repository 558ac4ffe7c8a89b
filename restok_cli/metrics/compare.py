"""Two results side by side: why they can or cannot be compared, and whether their difference means something."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, model_validator

from restok_cli.console import columns
from restok_cli.errors import RestokError
from restok_cli.metrics.intervals import Interval, difference_interval, paired_interval, welch_interval
from restok_cli.metrics.table import (
    METRICS,
    features_of,
    full_key,
    interval_text,
    labelled,
    metric_of,
    unusual_features,
)
from restok_cli.schema import Count, Fields, Finite, PositiveCount, read_json, shown

ONE_RUN_EACH = (
    "one run of each was measured: the intervals cover other draws of images, but not other training seeds, which move"
    " FID about three times as far (arXiv 2606.20536)"
)

Number = Annotated[Finite, Field(ge=-1e100, le=1e100)]  # squares of such can be added up


# Of an interval: values of the same images, intervals of the two numbers, or several runs.
Method = Literal["", "pairs", "intervals", "runs"]


class ComparedMetric(NamedTuple):
    """One metric of two results."""

    metric: str
    name: str
    values: tuple[float, float]
    differences: tuple[str, ...]  # what was not the same, and must be; empty where the numbers can be compared
    interval: Interval | None = None  # of the second value less the first; None where none is known
    method: Method = ""  # where the interval comes from

    @property
    def difference(self) -> float:
        """The second value less the first."""
        return self.values[1] - self.values[0]

    @property
    def verdict(self) -> str:
        """A word on the second value against the first."""
        if self.differences:
            return "not comparable"
        if self.interval is None:
            return "unknown"
        low, high = self.interval
        if low <= 0 <= high:
            return "inconclusive"
        return "better" if (low > 0) == METRICS[metric_of(self.metric)].higher_is_better else "worse"


def _in_order(interval: Interval) -> Interval:
    if interval[0] > interval[1]:
        raise ValueError("expected the lower limit first")
    return interval


_Limits = Annotated[tuple[Number, Number], AfterValidator(_in_order)]

CURVE_KEYS = ("curve", "tokens")  # of results with a curve; older versions wrote the second


class _Part(BaseModel):
    """Of a result; what is not described here is only shown, or compared as it is."""

    model_config = ConfigDict(extra="allow")


class _Fact(_Part):
    name: str
    value: Number
    interval: _Limits | None = None
    interval_given_reference: _Limits | None = None
    values: Annotated[list[Number], Field(min_length=2)] | None = (
        None  # of several runs, of which the value is the mean
    )
    levels: list[Number] = []
    n: Count
    n_reference: Count | None
    definition: str
    caveat: str
    setting: str = ""


class _ImageSet(_Part):
    source: str
    images: Fields = Field(default={}, validation_alias=AliasChoices("images", "pictures"))  # older: the second


class _Features(_Part):
    network: str
    published: bool = True


class _Protocol(_Part):
    samples: Fields
    reference: _ImageSet | None = None
    features: _Features | dict[str, _Features] | None = None  # of several networks, by their names
    model_fingerprint: str | None = None

    def check_all_is_said(self, metrics: Iterable[str]) -> None:
        """Raises ValueError where one of the metrics is unknown, or depends on something that is not described."""
        for name in metrics:
            if metric_of(name) not in METRICS:
                raise ValueError(f"unknown metric {shown(name)}")
            metric = METRICS[metric_of(name)]
            if metric.against and self.reference is None:
                raise ValueError(f"nothing is said of the reference of {name}")
            if metric.basis == "features" and not features_of(name, self.model_dump()):
                raise ValueError(f"nothing is said of the features of {name}")


Facts = Annotated[dict[str, _Fact], Field(min_length=1)]


class _Result(_Part):
    metrics: Facts
    protocol: _Protocol
    per_image: dict[str, dict[str, Number]] = {}  # by metric, then by the key of the reference's image
    runs: list["_Result"] = []  # of which this one is the mean

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.protocol.check_all_is_said(self.metrics)
        return self


class _Step(_Part):
    num_codes: PositiveCount = Field(validation_alias=AliasChoices("num_codes", "tokens"))
    metrics: Facts


class _Curve(_Part):
    """Of --num-codes: a result for each number of them."""

    curve: list[_Step] = Field(min_length=1, validation_alias=AliasChoices(*CURVE_KEYS))
    protocol: _Protocol

    @model_validator(mode="after")
    def _check(self) -> Self:
        for step in self.curve:
            self.protocol.check_all_is_said(step.metrics)
        return self


def read_result(path: Path) -> dict:
    """Read a file that `restok evaluate --json` wrote. Raises RestokError where it is something else."""
    results = read_results(path)
    if len(results) > 1:
        raise RestokError(f"{path} holds a result for each number of codes; give one of evaluate with one --num-codes")
    return next(iter(results.values()))


def read_results(path: Path) -> dict[int | None, dict]:
    """Read such a file, also of `--num-codes`: a result for each number of codes, or one whose key is None."""
    remedy = "give what `restok evaluate … --json > FILE` wrote"
    if read_json(Fields, path, remedy).keys().isdisjoint(CURVE_KEYS):
        return {None: read_json(_Result, path, remedy).model_dump(exclude_unset=True)}
    curve = read_json(_Curve, path, remedy).model_dump(exclude_unset=True)
    return {step["num_codes"]: {"metrics": step["metrics"], "protocol": curve["protocol"]} for step in curve["curve"]}


def compare_results(a: dict, b: dict) -> list[ComparedMetric]:
    """A row for each metric that both have by one network, whatever measured beside it, or under one key.

    Raises RestokError where there is none.
    """
    known = {full_key(key, b["protocol"]): key for key in b["metrics"]}
    pairs = [(key, known.get(full_key(key, a["protocol"]), key)) for key in a["metrics"]]
    rows = [compare_metric(a, key, b, other) for key, other in pairs if other in b["metrics"]]
    if not rows:
        raise RestokError(
            f"the results have no metric in common: {', '.join(a['metrics'])} and {', '.join(b['metrics'])}"
        )
    order = list(METRICS)
    return sorted(rows, key=lambda row: order.index(metric_of(row.metric)))


def compare_metric(a: dict, key: str, b: dict, other: str) -> ComparedMetric:
    """One metric of two results, in which it has these keys."""
    facts = [a["metrics"][key], b["metrics"][other]]
    ours, theirs = _conditions(a, key), _conditions(b, other)
    differences = tuple(
        f"{what}: {ours.get(what)} and {theirs.get(what)}"
        for what in dict.fromkeys([*ours, *theirs])
        if ours.get(what) != theirs.get(what)
    )
    names = {fact["name"] for fact in facts}
    label = names.pop() if len(names) == 1 else METRICS[metric_of(key)].label
    features = dict.fromkeys((unusual_features(key, a["protocol"]), unusual_features(other, b["protocol"])))
    label = labelled(label, " and ".join(filter(None, features)))
    images = [result.get("per_image", {}).get(name, {}) for result, name in ((a, key), (b, other))]
    interval, method = (None, "") if differences else _interval(*facts, *images)
    return ComparedMetric(key, label, (facts[0]["value"], facts[1]["value"]), differences, interval, method)


def _interval(ours: dict, theirs: dict, of_ours: dict, of_theirs: dict) -> tuple[Interval | None, Method]:
    """The interval of the second number less the first, and where it comes from: the tightest that is known.

    Each has its facts, and its values of each image where they are known.
    """
    runs = [fact.get("values") or [fact["value"]] for fact in (ours, theirs)]
    if len(runs[0]) > 1 or len(runs[1]) > 1:
        return welch_interval(*runs), "runs"
    if len(of_ours) > 1 and of_ours.keys() == of_theirs.keys():
        return paired_interval(list(of_ours.values()), [of_theirs[key] for key in of_ours]), "pairs"
    # Both have one reference: its images move both numbers together, or apart
    a, b = (fact.get("interval_given_reference") or fact.get("interval") for fact in (ours, theirs))
    if a and b:
        return difference_interval(ours["value"], a, theirs["value"], b), "intervals"
    return None, ""


def comparison_table(rows: list[ComparedMetric], names: tuple[str, str]) -> list[str]:
    """For people: a line per metric with both values, and their difference only where that means something."""
    lines = [("", *names, "difference", "95 % interval", "")]
    for row in rows:
        a, b = row.values
        unit = f" {METRICS[metric_of(row.metric)].unit}".rstrip()
        difference = "" if row.differences else f"{row.difference:+.6g}{unit}"
        lines.append((row.name, f"{a:.6g}", f"{b:.6g}", difference, interval_text(row.interval), row.verdict))
    return columns(lines, "<>><<<")


def coverage(rows: list[ComparedMetric]) -> str:
    """The caveat that a reader of the intervals needs, or ""."""
    return ONE_RUN_EACH if any(row.method in ("pairs", "intervals") for row in rows) else ""


def comparison_remarks(rows: list[ComparedMetric]) -> list[str]:
    """A line each that a reader needs before drawing conclusions."""
    unknown = ", ".join(row.name for row in rows if row.verdict == "unknown")
    why = f"without an interval of both, nobody knows whether the difference is chance: {unknown}; --runs gives one"
    return [line for line in (coverage(rows), unknown and why) if line]


def _conditions(result: dict, key: str) -> dict[str, object]:
    """All that must be the same for this metric of two results to be comparable; versions and devices need not."""
    metric, protocol, fact = METRICS[metric_of(key)], result["protocol"], result["metrics"][key]
    conditions: dict[str, object] = {
        "setting": fact.get("setting", ""),
        "images": fact["n"],
        "definition": fact["definition"],
    }
    for field in ("size", "crop"):
        conditions[f"{field} of the samples"] = protocol["samples"].get(field)
    if metric.against:
        reference = protocol.get("reference") or {}
        conditions["reference"] = reference.get("fingerprint")  # of its pixels, so after any crop
        conditions["reference images"] = fact["n_reference"]
        if metric.needs == "all features":
            conditions["reference's own images"] = (reference.get("images") or {}).get("fingerprint")
    if metric.basis == "features":
        features = features_of(key, protocol)
        for field in ("network", "weights_sha256", "resize"):
            conditions[f"features' {field}"] = features.get(field)
    if key == "lpips":
        conditions["weights of LPIPS"] = protocol.get("lpips_weights_sha256")
    if metric.basis == "codes":
        conditions["codebook size"], conditions["levels"] = protocol.get("codebook_size"), protocol.get("level_sizes")
    return conditions
