"""The golden vectors of the released implementation (tests/golden, see its README), and models filled like theirs."""

import importlib.util
import json

import numpy as np
import torch
from conftest import GOLDEN

_spec = importlib.util.spec_from_file_location("golden_fill", GOLDEN / "fill.py")
fill = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fill)


def load_case(kind: str, case: str) -> tuple[dict, dict[str, np.ndarray]]:
    """The facts (config, shapes, …) and the numbers of a case."""
    facts = json.loads((GOLDEN / f"{kind}_{case}.json").read_text())
    with np.load(GOLDEN / f"{kind}_{case}.npz") as arrays:
        return facts, dict(arrays)


def difference(ours: torch.Tensor, theirs: np.ndarray) -> float:
    """Norm of the difference, as a share of the norm of `theirs`: single values are more up to chance."""
    expected = theirs.astype(np.float64)
    return float(np.linalg.norm(ours.numpy() - expected) / np.linalg.norm(expected))
