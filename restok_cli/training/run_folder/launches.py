"""Launches of a run, each with the command, the versions, the device and the data."""

import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from restok_cli.console import counted, printable
from restok_cli.files import naming
from restok_cli.processes import world_size
from restok_cli.schema import Count, PositiveCount, Schema, read_whole_lines

STARTS_FILE = "starts.jsonl"


class Start(Schema):
    """A line of starts.jsonl."""

    step: Count  # after which the run goes on; 0: from the beginning
    time: str
    command: str
    data_fingerprint: str
    init: str | None = None  # the model whose weights the run began from
    device: str
    processes: PositiveCount
    platform: str
    python: str
    torch: str  # with what it was built for, which the package's version does not say
    restok: str
    numpy: str
    pillow: str


def record_start(run: Path, step: int, device: torch.device, data_fingerprint: str, init: str | None) -> None:
    """Append a line to the run's starts: it goes on after `step` (0: from the beginning) on this machine."""
    start = Start(
        step=step,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        command=printable(shlex.join(["restok", *sys.argv[1:]])),
        data_fingerprint=data_fingerprint,
        init=init,
        device=describe_device(device),
        processes=world_size(),
        platform=platform.platform(),
        python=platform.python_version(),
        torch=str(torch.__version__),
        restok=version("restok"),
        numpy=version("numpy"),
        pillow=version("pillow"),
    )
    with naming(run / STARTS_FILE), open(run / STARTS_FILE, "a+b") as file:
        file.seek(0)
        torn = file.read()[-1:] not in (b"", b"\n")  # by a kill or a full disk; what follows shall not be lost with it
        file.write(b"\n" * torn + start.model_dump_json().encode() + b"\n")


def describe_device(device: torch.device) -> str:
    """'cuda: NVIDIA H100 80GB HBM3', 'cpu: 2 threads on 2 cores'."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    if device.type == "cpu":
        return f"cpu: {counted(torch.get_num_threads(), 'thread')} on {counted(os.cpu_count() or 1, 'core')}"
    return str(device)


def read_starts(run: Path) -> list[Start]:
    """The starts of a run, the first one first; [] for a run of a restok that did not record them.

    A line that a kill or a full disk cut short is passed over. Raises RestokError for a file of something else.
    """
    file = run / STARTS_FILE
    return read_whole_lines(Start, file, "remove the line, or give another run") if file.is_file() else []
