"""Several cards that train one model together: what each keeps, and what they tell each other in a step.

With `compute.sharding=none` each has the whole model, and all make means of their gradients once a step; with fsdp each
keeps its part of what lives on, and gathers the weights of a block to compute with them (training/parallel.py).
"""

from collections.abc import Mapping
from typing import NamedTuple

from restok_cli.planning.configs import num_rounds
from restok_cli.planning.counting import AVERAGE, GRADIENTS, JUDGE, OPTIMIZER, WEIGHTS
from restok_cli.settings.training import RunConfig

CUT = WEIGHTS, AVERAGE, OPTIMIZER, GRADIENTS  # into shards


class Group(NamedTuple):
    """How the cards of a run share one model."""

    cards: int
    rounds: int  # micro-batches that each of them computes in a step
    in_shards: bool
    in_16_bits: bool  # are weights gathered

    @classmethod
    def of(cls, config: RunConfig, cards: int) -> "Group":
        in_shards = cards > 1 and getattr(config.compute, "sharding", "none") == "fsdp"
        return cls(cards, num_rounds(config), in_shards, config.compute.precision != "float32")

    def memory(self, alone: Mapping[str, int]) -> dict[str, int]:
        """Bytes of each card, by part, from those of one that is alone. All gradients have room, or wait for the last
        micro-batch before they are shared out.
        """
        memory = dict(alone)
        if self.cards > 1:
            memory[GRADIENTS] = max(memory.get(GRADIENTS, 0), memory[WEIGHTS])
        if self.in_shards:
            for name in CUT:
                if name != GRADIENTS or self.rounds == 1:
                    memory[name] = memory.get(name, 0) // self.cards
        return memory

    def exchanged(self, alone: Mapping[str, int]) -> float:
        """Bytes that each card sends in a step, by algorithms in which all send to one other at a time."""
        to_others = (self.cards - 1) / self.cards
        if self.in_shards:  # gathered for each forward and backward pass; gradients are summed in float32
            gathered = 2 * self.rounds * alone[WEIGHTS] / (2 if self.in_16_bits else 1)
            return to_others * (gathered + alone[WEIGHTS])
        return to_others * 2 * (alone[WEIGHTS] + alone.get(JUDGE, 0))
