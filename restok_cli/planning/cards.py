"""Rates of devices, by their makers' data sheets, and how much of it restok was measured to reach.

The shares are those of docs/benchmarks.md: on one H100 by tests/benchmarks/gpu.py, on a CPU by `restok bench`. On
other GPUs the same shares are assumed.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch

from restok_cli.planning.counting import Kind, Work
from restok_cli.planning.rates import bandwidth, rate
from restok_cli.room import total_memory

GIB = 1 << 30
# Of the rates of a data sheet; of the bytes a second, for what is neither product nor convolution.
GPU_SHARES = {
    ("product", "bf16"): 0.74,
    ("product", "float32"): 0.75,
    ("convolution", "bf16"): 0.33,
    ("convolution", "tf32"): 0.39,
    ("convolution", "float32"): 0.64,
    ("attention", "bf16"): 0.09,
    ("attention", "float32"): 0.3,  # assumed
}
GPU_TRAFFIC = 0.35
LAUNCH = 40e-6  # seconds of the host for each operation of a training step, on the machine of that H100
CPU_SHARE, CPU_TRAFFIC = 0.65, 0.5
LINK_SHARE = 0.8  # assumed


class Rest(NamedTuple):
    """Memory beside what is counted."""

    context: float  # bytes that are there before
    lost: float  # between blocks, as a share of what is counted

    def added(self, counted: float) -> float:
        return counted * (1 + self.lost) + self.context


ON_GPU = Rest(1.5 * GIB, 0.05)  # assumed: CUDA's own memory, and the workspaces of its libraries
# Python, torch and what its libraries keep; the most that glibc's heap lost, of the configs of
# tests/benchmarks/planning.py
ON_CPU = Rest(0.85 * GIB, 0.16)


class Device(NamedTuple):
    """Dense rates, without sparsity."""

    name: str
    memory: float  # GiB
    bandwidth: float  # bytes a second
    rates: Mapping[str, float]  # FLOP/s by type; fp16 as bf16
    watts: float
    link: float  # bytes a second that it sends to another one of the same machine
    source: str = "data sheet"
    rest: Rest = ON_GPU

    @property
    def is_gpu(self) -> bool:
        return self.name != "cpu"

    @property
    def type(self) -> str:
        """As torch calls it."""
        return "cuda" if self.is_gpu else "cpu"

    @property
    def usable(self) -> float:
        """Bytes for what is counted."""
        return (self.memory * GIB - self.rest.context) / (1 + self.rest.lost)


def gpu(
    name: str, memory: float, bandwidth: float, bf16: float, tf32: float, float32: float, watts: float, link: float
) -> Device:
    rates = {"bf16": bf16 * 1e12, "tf32": tf32 * 1e12, "float32": float32 * 1e12}
    return Device(name, memory, bandwidth * 1e12, rates, watts, link * 1e9)


DEVICES = {
    device.name: device
    for device in (
        gpu("h100", 79.2, 3.35, 989, 495, 67, 700, 450),
        gpu("h200", 140.0, 4.8, 989, 495, 67, 700, 450),
        gpu("a100", 79.3, 2.04, 312, 156, 19.5, 400, 300),
        gpu("l40s", 44.7, 0.864, 362, 183, 91.6, 350, 32),
        gpu("4090", 23.6, 1.008, 165, 82.6, 82.6, 450, 32),
        gpu("3090", 23.6, 0.936, 71, 35.6, 35.6, 350, 32),
        gpu("mi300x", 191.5, 5.3, 1307, 654, 163, 750, 448),
    )
}


def measured_cpu() -> Device:
    """This machine's CPU, its rates measured now."""
    cpu = torch.device("cpu")
    float32, bf16 = rate(torch.float32, cpu), rate(torch.bfloat16, cpu)
    rates = {"bf16": bf16, "tf32": float32, "float32": float32}
    moved = bandwidth(cpu)
    return Device("cpu", total_memory() / GIB, moved, rates, 0, moved / 2, "measured now", ON_CPU)


class Times(NamedTuple):
    """Seconds of one device."""

    by_part: dict[str, float]
    host: float  # starting operations
    sent: float = 0.0  # bytes, to other devices
    exchange: float = 0.0

    @property
    def total(self) -> float:
        """A step is bound by the device or by the host that starts its operations, whichever takes longer.

        No computing is assumed to go on while gradients and weights are exchanged, though some does.
        """
        return max(sum(self.by_part.values()), self.host) + self.exchange

    def with_exchange(self, sent: float, device: Device) -> "Times":
        return self._replace(sent=sent, exchange=sent / (device.link * LINK_SHARE))


def times_of(work: Mapping[Kind, Work], device: Device, tf32: bool, launch: float = LAUNCH) -> Times:
    """How long this work should take. `tf32` says whether float32 convolutions may use it."""
    by_part: dict[str, float] = {}
    for kind, done in work.items():
        dtype = "bf16" if kind.dtype == "fp16" else kind.dtype
        if kind.operation == "convolution" and dtype == "float32" and tf32:
            dtype = "tf32"
        share = GPU_SHARES.get((kind.operation, dtype), 1.0) if device.is_gpu else CPU_SHARE
        traffic = device.bandwidth * (GPU_TRAFFIC if device.is_gpu else CPU_TRAFFIC)
        seconds = done.flops / (device.rates.get(dtype, device.rates["float32"]) * share)
        if kind.operation == "other":
            seconds = done.bytes / traffic
        by_part[kind.part] = by_part.get(kind.part, 0.0) + seconds
    host = launch * sum(done.launches for done in work.values()) if device.is_gpu else 0.0
    return Times(by_part, host)
