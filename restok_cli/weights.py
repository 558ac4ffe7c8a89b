"""Tensors from and to files, by name."""

import os
import pickle
import re
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from restok_cli.errors import RestokError


def write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write a safetensors file. Raises OSError, also where safetensors hides one (a full disk)."""
    path.touch()
    mode = path.stat().st_mode  # as the umask has it: safetensors puts another file there, which is for its owner alone
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        if told := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(told[1]), os.strerror(int(told[1])), str(path)) from error
        raise OSError(None, f"cannot write ({error})", str(path)) from error
    path.chmod(mode)


def read_tensors(path: Path, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The named tensors of a safetensors file, or of a pickled one without running anything in it.

    Raises RestokError if it is missing, truncated or holds anything else.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            found = load_file(path, device=str(device))
        else:
            found = torch.load(path, map_location=device, weights_only=True, mmap=is_stored_zip(path))
    except MemoryError:
        raise
    except Exception as error:  # torch documents none of what it raises for a damaged file
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if isinstance(error, pickle.UnpicklingError):  # torch would advise to run what is in it
            reason = "it is none, or holds more than tensors"
        raise RestokError(
            f"{path} cannot be read as weights ({reason}); give .safetensors or a torch checkpoint of tensors only, or"
            " copy it again"
        ) from error
    if not isinstance(found, dict) or not all(map(_is_named_tensor, found.items())):
        raise RestokError(f"{path} holds no weights; expected names and their tensors")
    return found


def is_stored_zip(path: Path) -> bool:
    """Whether a file is a zip file, as torch writes them, and not one of its older kind.

    Raises ValueError where it is a packed one, which none of torch's is: torch would take the packed bytes for numbers,
    and some of them may unpack to anything.
    """
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        if packed := [info.filename for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED]:
            raise ValueError(f"{packed[0]} in it is packed, as torch packs none")
    return True


def _is_named_tensor(entry: tuple[object, object]) -> bool:
    """Whether that is a name and an array of numbers, which other programs may have packed or left out."""
    name, tensor = entry
    return (
        isinstance(name, str)
        and isinstance(tensor, Tensor)
        and tensor.layout == torch.strided
        and not (tensor.is_meta or tensor.is_quantized)
    )
