"""Whether torch.compile is to be used, and works."""

import warnings
from typing import Literal

import torch

from restok_cli.console import note


def is_wanted(choice: bool | Literal["auto"], device: torch.device, off: str) -> bool:
    """Whether to compile: `choice`, or for "auto", on a GPU where it works.

    Why not is said, and what turns it `off`.
    """
    # advice of torch 2.11, against what the precision that was asked for has decided
    warnings.filterwarnings("ignore", "TensorFloat32 tensor cores", UserWarning)
    if choice != "auto":
        return choice
    if device.type != "cuda":
        return False
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(8, device=device))
    except Exception as error:  # whatever a compiler, or the lack of one, raises
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        note(f"nothing is compiled, since torch.compile fails here ({reason}); {off} is silent")
        return False
    return True
