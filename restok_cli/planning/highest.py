"""How high memory rises while something runs: that of a GPU, else that of this process, where the system says so."""

import ctypes
import gc
from pathlib import Path

import torch

FIELDS = Path("/proc/self/status")
FORGET = Path("/proc/self/clear_refs"), "5"  # the highest value of all memory begins anew


def begin(device: torch.device) -> int | None:
    """Bytes now, from which on `rise` counts; None where the system does not say."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    if not FORGET[0].exists():
        return None
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)  # else what is freed may still be there
    FORGET[0].write_text(FORGET[1])
    return field("VmRSS")


def rise(before: int | None, device: torch.device) -> int | None:
    """By how many bytes it was higher since."""
    if before is None:
        return None
    return (torch.cuda.max_memory_allocated(device) if device.type == "cuda" else field("VmHWM")) - before


def field(name: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at the highest."""
    return 1024 * int(next(line.split()[1] for line in FIELDS.read_text().splitlines() if line.startswith(name)))
