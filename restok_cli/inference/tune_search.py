"""The search of `restok tune` without its images: a grid of options, successive halving, and what may be concluded.

How candidates are measured is given as a function, so that all of this can be tried on numbers with a known best.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

from restok_cli.errors import UsageError
from restok_cli.inference.generate_destination import LEAST_MEMORY
from restok_cli.inference.sampling_options import SCHEDULES, check_name, check_value
from restok_cli.metrics.table import LEVEL, METRICS
from restok_cli.model.guidance import SamplingOptions, guidance_scale
from restok_cli.room import check_memory
from restok_cli.settings.yaml_file import parse_value, read_yaml

Space = Mapping[str, Sequence[Any]]  # the values to try of each option

DEFAULT_SPACE: Space = {
    "cfg_scale": [1.0, 1.5, 2.0, 3.0, 4.0],
    "cfg_schedule": ["constant", "linear", "step"],
    "cfg_start": [0.25, 0.5],
    "temperature": [1.0, 0.75, 0.5],
    "top_p": [1.0, 0.95],
    "top_k": [0, 256],
}
LARGEST_SPACE = 10_000  # combinations of values
SHARE, FEWEST = 3, 3  # of the candidates of a rung a third go on, and no fewer than three
GROWTH = 3  # from the images of each candidate in a rung to those in the next


# --- candidates ----------------------------------------------------------------------------------------------------


def read_space(file: Path | None, tries: Iterable[str]) -> Space:
    """The values that --space and --try name, where the latter override; without either, DEFAULT_SPACE.

    Raises UsageError where one is no option of sampling, or cannot have such a value.
    """
    space: dict[str, list[Any]] = {}
    if file is not None:
        values, lines = read_yaml(file)
        for name, listed in values.items():
            space[name] = _checked(f"{file}:{lines[name]}: {name}", name, listed)
        if not space:
            raise UsageError(f"{file} names nothing to try; give lines such as `cfg_scale: [1, 1.5, 2]`")
    for text in tries:
        written, equals, listed = text.partition("=")
        if not equals:
            raise UsageError(f"--try {text}: give NAME=VALUE,VALUE, such as cfg_scale=1,1.5,2")
        name = written.strip().replace("-", "_")
        space[name] = _checked(f"--try {name}", name, parse_value(f"[{listed}]", f"--try {text}"))
    return space or DEFAULT_SPACE


def _checked(where: str, name: str, listed: Any) -> list[Any]:
    check_name(where, name)
    values = [check_value(where, name, value) for value in (listed if isinstance(listed, list) else [listed])]
    if not values:
        raise UsageError(f"{where}: no values; give some, such as 1,1.5,2")
    return list(dict.fromkeys(values)) if name == "cfg_schedule" else sorted(set(values))


def canonical(options: SamplingOptions) -> SamplingOptions:
    """The options, with those that change nothing at their defaults: of two that draw the same images, one is left."""
    idle = {name for name, schedules in SCHEDULES.items() if options.cfg_schedule not in schedules}
    if options.cfg_scale == 1:
        idle = {"cfg_schedule", *SCHEDULES}
    if options.temperature == 0:  # always the likeliest code, which every cut leaves
        idle |= {"top_k", "top_p"}
    return options._replace(**{name: SamplingOptions._field_defaults[name] for name in idle})


def stated(options: SamplingOptions) -> dict[str, Any]:
    """The options by name, without those that change nothing; guidance is always told, also where there is none."""
    values, defaults = canonical(options)._asdict(), SamplingOptions._field_defaults
    return {name: value for name, value in values.items() if name == "cfg_scale" or value != defaults[name]}


def options_text(options: SamplingOptions) -> str:
    """For people, and names of files: cfg_scale=2 temperature=0.5."""
    return " ".join(f"{name}={str(value).removesuffix('.0')}" for name, value in stated(options).items())


class Grid:
    """All combinations of the values of a space, each way to draw once; options that it does not name are `base`'s."""

    def __init__(self, space: Space, base: SamplingOptions):
        self.base, self.space = canonical(base), space
        if math.prod(map(len, space.values())) > LARGEST_SPACE:
            raise UsageError(f"the space has more than {LARGEST_SPACE:,} combinations; give fewer values")
        self.places: dict[SamplingOptions, list[tuple[int, ...]]] = {}  # of each candidate, which may have several
        self.at: dict[tuple[int, ...], SamplingOptions] = {}
        for place in product(*(range(len(values)) for values in space.values())):
            values = {name: listed[i] for (name, listed), i in zip(space.items(), place, strict=True)}
            options = canonical(base._replace(**values))
            if options.cfg_schedule == "rectangular" and options.cfg_start >= options.cfg_stop:
                continue
            self.at[place] = options
            self.places.setdefault(options, []).append(place)
        if not self.places:
            raise UsageError("in no combination does guidance begin before it ends; give a lower cfg_start to try")

    @property
    def candidates(self) -> list[SamplingOptions]:
        """Also what is drawn by where nobody asks for anything else."""
        return list(dict.fromkeys((*self.places, self.base)))

    def neighbours(self, options: SamplingOptions) -> list[SamplingOptions]:
        """Candidates one value away: the next lower or higher one of an option, any other schedule."""
        found = {}
        for place in self.places.get(options, []):
            for axis, (name, values) in enumerate(self.space.items()):
                nearby = range(len(values)) if name == "cfg_schedule" else (place[axis] - 1, place[axis] + 1)
                for i in nearby:
                    neighbour = self.at.get((*place[:axis], i, *place[axis + 1 :]))
                    if neighbour is not None and neighbour != options:
                        found[neighbour] = True
        return list(found)


def guidance_strength(options: SamplingOptions, num_steps: int) -> float:
    """By how much guidance is above none, mean over the steps: what is mild can be told of any schedule by it."""
    ratios = [step / max(num_steps - 1, 1) for step in range(num_steps)]
    return sum(abs(guidance_scale(options, ratio) - 1) for ratio in ratios) / num_steps


# --- successive halving --------------------------------------------------------------------------------------------


class Rung(NamedTuple):
    """Candidates that were measured with so many images each; lower scores are better."""

    count: int
    scores: dict[SamplingOptions, float]

    def best(self, number: int = 1) -> list[SamplingOptions]:
        """The best ones, in order; of those that are as good, the first of the grid."""
        return sorted(self.scores, key=self.scores.__getitem__)[:number]


def rung_counts(first: int, last: int, unit: int) -> list[int]:
    """Images of each candidate, rung by rung: up to GROWTH times as many, in whole units of those drawn together."""
    growths = math.ceil(math.log(last / first, GROWTH) - 1e-9)
    counts = [first * (last / first) ** (i / growths) for i in range(growths)]
    return sorted({math.ceil(count / unit - 1e-9) * unit for count in (*counts, last)})


def search(
    candidates: Sequence[SamplingOptions],
    counts: Sequence[int],
    measure: Callable[[list[SamplingOptions], int], list[float]],
) -> list[Rung]:
    """Measure all candidates with few images, the best third of them with more, and so on.

    `measure` gives a score for each of the candidates by their first images, so many of each; lower is better.
    """
    rungs, left = [], list(candidates)
    for count in counts:
        rungs.append(Rung(count, dict(zip(left, measure(left, count), strict=True))))
        left = rungs[-1].best(max(math.ceil(len(left) / SHARE), FEWEST))
    return rungs


# --- conclusions ---------------------------------------------------------------------------------------------------


class Gap(NamedTuple):
    """By how much a candidate is worse than the best, give or take `reach`, which holds for all gaps together."""

    value: float
    reach: float | None  # None where it is not known


class Conclusion(NamedTuple):
    chosen: SamplingOptions
    best: SamplingOptions  # by its score alone
    gaps: dict[SamplingOptions, Gap]  # of all others

    @property
    def is_known(self) -> bool:
        """Whether it is known what differences mean."""
        return all(gap.reach is not None for gap in self.gaps.values())

    @property
    def tied(self) -> list[SamplingOptions]:
        """Those that cannot be told from the best, which is one of them."""
        return [self.best, *(options for options, gap in self.gaps.items() if gap.value <= (gap.reach or 0))]


def conclude(
    scores: Mapping[SamplingOptions, float],
    reach: Callable[[SamplingOptions, SamplingOptions], float | None],
    strength: Callable[[SamplingOptions], float],
) -> Conclusion:
    """The best by scores on fresh seeds, of which lower is better, unless others cannot be told from it.

    Then the mildest of those, by `strength`. `reach` says how far the interval of the difference of two reaches to
    either side, for a comparison of those alone; it is widened for all of them, since the best is found by the same
    scores (Bonferroni). Where it is not known, the best is chosen.
    """
    best, normal = min(scores, key=scores.__getitem__), NormalDist()
    pairs = max(math.comb(len(scores), 2), 1)
    factor = normal.inv_cdf(1 - (1 - LEVEL) / 2 / pairs) / normal.inv_cdf((1 + LEVEL) / 2)
    gaps = {}
    for options in scores:
        if options != best:
            alone = reach(best, options)
            gaps[options] = Gap(scores[options] - scores[best], None if alone is None else factor * alone)
    found = Conclusion(best, best, gaps)
    if not found.is_known:
        return found
    return found._replace(chosen=min(found.tied, key=lambda options: (strength(options), scores[options])))


def check_request(metric_name: str, reference: str | None, first: int, images: int) -> None:
    """Raises UsageError where the options of a search contradict each other."""
    metric = METRICS[metric_name]
    if metric.against and reference is None:
        raise UsageError(
            f"{metric_name} needs something to compare with; give --reference, for example --reference sample"
            " --split train"
        )
    if not metric.against and reference is not None:
        raise UsageError(f"{metric_name} compares with nothing; leave --reference out, or give --metric gfid")
    if first > images:
        raise UsageError(
            f"--first {first} images of each are more than --images {images} of the best; give a lower --first"
        )
    check_memory("--images", images, LEAST_MEMORY)
