"""What a run was started with, each time: the command, the versions, the device and the data."""

import json
import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from restok_cli.console import counted
from restok_cli.errors import RestokError
from restok_cli.files import text_lines
from restok_cli.processes import world_size

STARTS_FILE = "starts.jsonl"
PACKAGES = ("restok", "numpy", "pillow")


def record_start(run: Path, step: int, device: torch.device, data_fingerprint: str) -> None:
    """Append a line to the run's starts: it goes on after `step` (0: from the beginning) on this machine."""
    start = {
        "step": step,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["restok", *sys.argv[1:]]),
        "data_fingerprint": data_fingerprint,
        "device": describe_device(device),
        "processes": world_size(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,  # with what it was built for, which the package's version does not say
        **{package: version(package) for package in PACKAGES},
    }
    with open(run / STARTS_FILE, "a", encoding="utf-8") as file:
        file.write(json.dumps(start, ensure_ascii=False) + "\n")


def describe_device(device: torch.device) -> str:
    """'cuda: NVIDIA H100 80GB HBM3', 'cpu: 2 threads on 2 cores'."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    if device.type == "cpu":
        return f"cpu: {counted(torch.get_num_threads(), 'thread')} on {counted(os.cpu_count(), 'core')}"
    return str(device)


def read_starts(run: Path) -> list[dict[str, str | int]]:
    """The starts of a run, the first one first; [] for a run of a restok that did not record them.

    A line that a kill or a full disk cut short is passed over. Raises RestokError for a file of something else.
    """
    file, starts = run / STARTS_FILE, []
    if not file.is_file():
        return []
    for line in text_lines(file):
        try:
            start = json.loads(line)
        except ValueError:
            continue
        if not isinstance(start, dict) or "command" not in start:
            raise RestokError(f"{file} is not as a run writes it: {line[:80]}")
        starts.append(start)
    return starts
