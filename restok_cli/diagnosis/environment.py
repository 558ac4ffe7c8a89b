"""Checks of `restok doctor` on the machine: Python, libraries, torch, cores, memory, disks.

Imports stand inside functions in this folder: where one fails, that is a finding.
"""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import Literal, NamedTuple

CPU_BUILD = "pip install --force-reinstall torch torchvision --index-url https://download.pytorch.org/whl/cpu"
GPU_BUILD = "pip install --force-reinstall torch torchvision, by the command that pytorch.org/get-started gives"
GPU_DEVICES = ("/dev/nvidia0", "/dev/dxg")  # of NVIDIA's driver, on Linux and in WSL
GB = 1e9
LITTLE_MEMORY, LITTLE_DISK, LITTLE_SHM = 4 * GB, 5 * GB, 1 * GB  # bytes; below, something of daily use may fail
FULL_DISK = 0.1 * GB


class Finding(NamedTuple):
    """One thing that was looked at."""

    state: Literal["ok", "note", "problem"]
    subject: str
    text: str  # what was found
    remedy: str = ""  # what to do, where there is something to do


def guarded(subject: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Run `check`; where it breaks itself, that is its finding: a doctor must reach the end."""
    try:
        yield from check()
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        yield Finding("problem", subject, f"cannot be looked at ({reason})")


def python() -> Iterator[Finding]:
    yield Finding("ok", "python", f"{platform.python_version()} at {sys.executable}, {platform.platform()}")


def libraries() -> Iterator[Finding]:
    """Versions of what restok requires, against what it asks for; its extras are no problem where they are missing."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    wanted = SpecifierSet(metadata("restok")["Requires-Python"])
    if not wanted.contains(platform.python_version(), prereleases=True):
        yield Finding("problem", "python", f"{platform.python_version()} is not {wanted}", "install restok in another")
    found, extras = [], {}
    for requirement in map(Requirement, requires("restok") or []):
        extra = requirement.marker and str(requirement.marker).partition('"')[2].rstrip('"')
        if extra == "test":
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            if extra:
                extras.setdefault(extra, []).append(requirement.name)
                continue
            installed = None
        if installed and requirement.specifier.contains(installed, prereleases=True):
            found.append(f"{requirement.name} {installed}")
            continue
        wanted = f"{requirement.name}{requirement.specifier}"
        text = f"{installed} is not {requirement.specifier}" if installed else "not installed"
        yield Finding("problem", requirement.name, text, f"pip install --upgrade '{wanted}'")
    yield Finding("ok", "libraries", f"restok {version('restok')}, {', '.join(found)}")
    for extra, names in extras.items():
        yield Finding("note", extra, f"{', '.join(names)} not installed", f"if needed: pip install 'restok[{extra}]'")


def torch_and_its_device() -> Iterator[Finding]:
    import torch

    build = (
        f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}" * bool(torch.version.hip)
    )
    has_gpu = any(Path(device).exists() for device in GPU_DEVICES)
    yield Finding("ok", "torch", f"{torch.__version__}, {f'built for {build}' if build else 'built for CPUs'}")
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            yield from _try_gpu(i)
    elif torch.backends.mps.is_available():
        yield Finding("ok", "device", "mps (Apple's GPU), by --device mps; auto means the CPU")
    elif has_gpu and build:
        yield Finding("problem", "device", "there is a GPU that torch cannot use", f"update its driver, or {GPU_BUILD}")
    elif has_gpu:
        yield Finding("problem", "device", "there is a GPU, and this torch is built for CPUs", GPU_BUILD)
    elif build:
        text = f"cpu; this torch is built for {build}, which is fine here but takes gigabytes of disk for nothing"
        yield Finding("note", "device", text, f"the smaller one: {CPU_BUILD}")
    else:
        yield Finding("ok", "device", "cpu")


def _try_gpu(i: int) -> Iterator[Finding]:
    """A GPU that is listed may still refuse to work."""
    import torch

    try:
        (torch.ones(1, device=f"cuda:{i}") + 1).item()
        free, total = torch.cuda.mem_get_info(i)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        yield Finding("problem", f"cuda:{i}", f"does not work ({reason})", "update its driver, or give --device cpu")
        return
    name = torch.cuda.get_device_name(i)
    state, remedy = ("note", "other programs hold the rest: see nvidia-smi") if free < total / 2 else ("ok", "")
    yield Finding(state, f"cuda:{i}", f"{name}, {free / GB:.0f} of {total / GB:.0f} GB free", remedy)


def cores() -> Iterator[Finding]:
    import torch

    from restok_cli.machine import available_cores, busy_cores

    count, threads = available_cores(), torch.get_num_threads()
    setting = os.environ.get("OMP_NUM_THREADS")
    text = f"{count} for restok, of {os.cpu_count()}; torch computes with {threads}"
    text += f" (OMP_NUM_THREADS={setting})" if setting else ""
    if threads > count:
        yield Finding(
            "note", "cores", text, f"more threads than cores slow each other down: set OMP_NUM_THREADS={count}"
        )
    elif busy_cores() > 1.5 * (os.cpu_count() or 1):
        text += f"; in the last minute {busy_cores():.0f} were wanted"
        yield Finding("note", "cores", text, "other programs compute here: all takes longer")
    elif setting and threads < count:
        yield Finding("note", "cores", text, "unset OMP_NUM_THREADS to use all of them")
    else:
        yield Finding("ok", "cores", text)


def memory() -> Iterator[Finding]:
    import psutil

    from restok_cli.room import memory_limit

    found = psutil.virtual_memory()
    text = f"{found.available / GB:.1f} of {found.total / GB:.1f} GB free"
    limit = memory_limit()
    available = found.available
    if limit and limit < found.total:
        text += f", of which this container may have {limit / GB:.1f} GB in all"
        available = min(available, limit)
    if available < LITTLE_MEMORY:
        yield Finding("note", "memory", text, "give a small --batch-size, and few processes")
    else:
        yield Finding("ok", "memory", text)


def disks() -> Iterator[Finding]:
    """Free room here and where caches are."""
    from huggingface_hub.constants import HF_HUB_CACHE
    from torch.hub import get_dir

    from restok_cli.metrics.cache_folder import default_cache

    places = [("this folder", Path.cwd(), ""), ("torch's cache", Path(get_dir()), "TORCH_HOME")]
    places.append(("the hub's cache", Path(HF_HUB_CACHE), "HF_HOME"))
    if own := default_cache():  # None without a home, which the lines of the others' caches show
        places.append(("restok's cache", own, "XDG_CACHE_HOME"))
    for subject, folder, variable in places:
        yield from guarded(subject, partial(_disk, subject, folder, variable))


def _disk(subject: str, folder: Path, variable: str) -> Iterator[Finding]:
    """`variable` is the one of the environment that names another folder, where there is one."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    text = f"{folder}, {free / GB:.1f} GB free"
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        advice = f"give your user the right to write {there}"
        if variable:
            advice = f"set {variable} to a folder that your user may write to"
        yield Finding("problem", subject, f"{folder} cannot be written to", advice)
    elif free < FULL_DISK:
        yield Finding("problem", subject, text, "make room: nothing of size can be written there")
    elif free < LITTLE_DISK:
        yield Finding("note", subject, text, "a checkpoint of a tokenizer of the paper's size takes gigabytes")
    else:
        yield Finding("ok", subject, text)


def shared_memory() -> Iterator[Finding]:
    """Through which the GPUs of a machine may talk to each other."""
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return  # not on Linux, and not needed there
    free = shutil.disk_usage(folder).free
    text = f"{folder}, {free / GB:.1f} GB free"
    if free < LITTLE_SHM:
        remedy = "to train on several GPUs, start the container with --shm-size=1g or more"
        yield Finding("note", "shared memory", text, remedy)
    else:
        yield Finding("ok", "shared memory", text)


def compiler() -> Iterator[Finding]:
    """Needs of torch.compile on a CPU."""
    named = os.environ.get("CXX")
    found = next(filter(None, map(shutil.which, [named] if named else ["g++", "c++", "clang++"])), None)
    if found:
        yield Finding("ok", "compiler", f"{found}, for --compile and compute.compile")
    else:
        text = f"CXX={named} is no program" if named else "none for C++; only --compile and compute.compile need one"
        yield Finding("note", "compiler", text, "install g++")


ENVIRONMENT_CHECKS = (python, libraries, torch_and_its_device, cores, memory, disks, shared_memory, compiler)
