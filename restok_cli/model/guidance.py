"""How codes are drawn: temperature, cuts, and the schedules of classifier-free guidance, by name. No torch."""

import math
from typing import Literal, NamedTuple, get_args

GuidanceSchedule = Literal[
    "constant",
    "linear",
    "linear-reversed",
    "linear-constant",
    "triangular",
    "rectangular",
    "step",
    "cosine",
    "cosine-reversed",
]
GUIDANCE_SCHEDULES: tuple[str, ...] = get_args(GuidanceSchedule)


class SamplingOptions(NamedTuple):
    """How codes are drawn. The defaults draw from the model's own distribution, without guidance."""

    cfg_scale: float = 1.0
    cfg_schedule: GuidanceSchedule = "constant"
    cfg_start: float = 0.25  # ratio where `step` begins, and `rectangular`
    cfg_stop: float = 1.0  # ratio where `rectangular` ends
    cfg_peak: float = 0.5  # ratio where `triangular` and `linear-constant` are highest
    temperature: float = 1.0  # 0 = greedy
    top_k: int = 0  # 0 = all
    top_p: float = 1.0


def guidance_scale(options: SamplingOptions, ratio: float) -> float:
    """The guidance scale at `ratio` = step / (steps − 1) of the way."""
    scale, extra = options.cfg_scale, options.cfg_scale - 1
    match options.cfg_schedule:
        case "constant":
            return scale
        case "linear":
            return 1 + extra * ratio
        case "linear-reversed":
            return 1 + extra * (1 - ratio)
        case "linear-constant":
            return 1 + extra * min(ratio / options.cfg_peak, 1)
        case "triangular":
            rising = ratio < options.cfg_peak
            return 1 + extra * (ratio / options.cfg_peak if rising else (1 - ratio) / (1 - options.cfg_peak))
        case "rectangular":
            return scale if options.cfg_start <= ratio <= options.cfg_stop else 1.0
        case "step":
            return scale if ratio >= options.cfg_start else 1.0
        case "cosine":
            return 1 + extra * (1 - math.cos(math.pi * ratio)) / 2
        case "cosine-reversed":
            return 1 + extra * (1 + math.cos(math.pi * ratio)) / 2
