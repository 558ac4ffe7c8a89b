"""Facts of the machine, and settings of its libraries, for before torch is imported."""

import math
import os
import re
from contextlib import suppress
from functools import cache
from pathlib import Path

from restok_cli.errors import UsageError

DEVICE_TYPES = ("cpu", "cuda", "mps")
CPU = Path("/proc/cpuinfo")
CGROUPS = Path("/sys/fs/cgroup")  # where Linux shows the limits of groups of processes
OWN_GROUPS = Path("/proc/self/cgroup")


@cache
def cpu_words() -> frozenset[str]:
    """All that Linux says of the CPU: its maker, and each of its abilities. Empty elsewhere."""
    with suppress(OSError):
        return frozenset(CPU.read_text(encoding="utf-8").split())
    return frozenset()


def is_intel() -> bool:
    """Whether the CPU is one of Intel's: for those of others Intel's library (MKL) takes slower ways."""
    return "GenuineIntel" in cpu_words()


def has_bf16_products() -> bool:
    """Whether the CPU multiplies numbers of 16 bits (bfloat16) in hardware: faster than those of 32."""
    return not cpu_words().isdisjoint(("avx512_bf16", "amx_bf16", "bf16"))  # the last is how ARM calls it


def round_alike() -> None:
    """Let float32 products round alike for all batch sizes and numbers of threads where the library can, which is
    Intel's.

    MKL reads its setting when it is first used. It costs nothing from eight rows on, and is not for the CPUs of others,
    for which MKL would fall back to old instructions.
    """
    if is_intel():
        os.environ["MKL_CBWR"] = "AUTO,STRICT"


def let_threads_sleep() -> None:
    """Where others keep all cores busy, let torch's threads sleep while they wait for each other.

    GNU's OpenMP lets them turn on the spot, which takes the time of those that they wait for: with two threads beside
    twelve other programs on two cores, a step took 20 times as long. Alone, sleeping would cost up to a third. The
    library reads its setting when torch is imported.
    """
    if busy_cores() > 1.5 * (os.cpu_count() or 1):
        os.environ.setdefault("GOMP_SPINCOUNT", "0")


def busy_cores() -> float:
    """How many cores all programs of the machine wanted together in the last minute."""
    with suppress(AttributeError, OSError):
        return os.getloadavg()[0]
    return 0.0  # Windows does not count it


def check_device_name(name: str) -> str:
    """`name`, where a device may be called so. Raises UsageError; whether it is here, torch alone knows."""
    if not re.fullmatch(rf"auto|({'|'.join(DEVICE_TYPES)})(:\d+)?", name, re.ASCII):
        raise UsageError(f"--device {name}: no such device; take one of auto, {', '.join(DEVICE_TYPES)}")
    if name.startswith("cpu:") and int(name[4:]):
        raise UsageError(f"--device {name}: there is one cpu; take cpu, or auto")
    return name


def available_cores() -> int:
    """How many cores this process may use: those that it may run on, or as many as its share of their time amounts to.

    A container is often given such a share (Docker's --cpus, a limit of Kubernetes), and sees all cores nevertheless.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, cpu_quota())))


def cpu_quota() -> float:
    """The share of CPU time, in cores, that the groups of this process may take together; infinite without a limit."""
    quotas = [math.inf]
    with suppress(OSError):
        for line in OWN_GROUPS.read_text(encoding="utf-8").splitlines():
            _, controllers, own = line.split(":", 2)
            if not controllers:  # cgroup v2
                root, files = CGROUPS, ("cpu.max",)
            elif "cpu" in controllers.split(","):
                root, files = CGROUPS / "cpu", ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            else:
                continue
            group = root / own.strip("/")
            for folder in (group, *group.parents):  # each above limits all below; a container may not see its own
                if folder.is_relative_to(root):
                    quotas.append(_quota(folder, files))
    return min(quotas)


def _quota(folder: Path, files: tuple[str, ...]) -> float:
    """Microseconds of CPU time in a period, over the microseconds of the period; infinite where there is no limit."""
    try:
        quota, period = " ".join((folder / file).read_text(encoding="utf-8") for file in files).split()
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError):  # none, or the word max
        return math.inf
