"""What is to be known of the machine before torch is imported."""

from contextlib import suppress
from functools import cache
from pathlib import Path


@cache
def is_intel() -> bool:
    """Whether the CPU is one of Intel's, on Linux: for those of others Intel's library (MKL) takes slower ways."""
    with suppress(OSError):
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return False
