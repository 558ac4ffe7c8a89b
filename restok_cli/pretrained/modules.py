"""Models in memory, from and to model folders (see folder.py)."""

import json
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

from restok_cli.console import counted
from restok_cli.cpu.rewrite import can_rewrite, rewrite
from restok_cli.errors import RestokError
from restok_cli.files import whole_folder
from restok_cli.model.config import HarConfig, TokenizerConfig
from restok_cli.model.empty import without_weights
from restok_cli.model.har import Har
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained import released, released_tensors
from restok_cli.pretrained.checksums import check_file, write_checksums
from restok_cli.pretrained.folder import (
    CONFIG_FILE,
    FORMAT,
    TOKENIZER_FOLDER,
    WEIGHTS_FILE,
    Describe,
    HarFolder,
    Kind,
    ModelFolder,
    TokenizerFolder,
    copy_model,
    fingerprint,
)
from restok_cli.weights import read_tensors, write_tensors


def save_tokenizer(tokenizer: Tokenizer, folder: Path, describe: Describe = lambda _: None) -> None:
    """Write the model folder of a tokenizer, whole or not at all."""
    with whole_folder(folder) as temporary:
        _write_model(temporary, "tokenizer", tokenizer, {})
        describe(temporary)


def save_har(
    har: Har,
    tokenizer: TokenizerFolder | None,
    class_names: list[str],
    folder: Path,
    describe: Describe = lambda _: None,
    tokenizer_fingerprint: str | None = None,
) -> None:
    """Write the model folder of a generator, with a copy of its tokenizer where that is there.

    `tokenizer_fingerprint` is that of the one whose codes it draws, where somebody has written it down already.
    """
    with whole_folder(folder) as temporary:
        known = tokenizer_fingerprint or (fingerprint(tokenizer) if tokenizer else None)
        _write_model(temporary, "har", har, {"class_names": class_names, "tokenizer_fingerprint": known})
        if tokenizer is not None:
            (temporary / TOKENIZER_FOLDER).mkdir()
            copy_model(tokenizer, temporary / TOKENIZER_FOLDER)
        describe(temporary)


def save_released(module: Tokenizer | Har, folder: Path, describe: Describe = lambda _: None) -> None:
    """Write a model in the layout of the authors' releases. Raises UsageError where that cannot express it."""
    config = module.config
    if isinstance(config, TokenizerConfig):
        header = released.released_tokenizer_config(config)
    else:
        header = released.released_har_config(config)
    with whole_folder(folder) as temporary:
        (temporary / CONFIG_FILE).write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")
        write_tensors(released_tensors.to_released(config, module.state_dict()), temporary / WEIGHTS_FILE)
        write_checksums(temporary, (CONFIG_FILE, WEIGHTS_FILE))
        describe(temporary)


def _write_model(folder: Path, kind: Kind, module: Tokenizer | Har, extra: dict[str, Any]) -> None:
    header = {"format": FORMAT, "kind": kind, "config": module.config.model_dump(), **extra}
    (folder / CONFIG_FILE).write_text(json.dumps(header, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    write_tensors(module.state_dict(), folder / WEIGHTS_FILE)
    write_checksums(folder, (CONFIG_FILE, WEIGHTS_FILE))


@overload
def load_model(folder: TokenizerFolder, device: torch.device, dtype: torch.dtype = ...) -> Tokenizer: ...
@overload
def load_model(folder: HarFolder, device: torch.device, dtype: torch.dtype = ...) -> Har: ...
def load_model(folder: ModelFolder, device: torch.device, dtype: torch.dtype = torch.float32) -> Tokenizer | Har:
    """Load the model in a folder, in evaluation mode, with no second copy of the weights in memory.

    On a GPU the pixel decoder is in float16 where the rest has 16 bits. Raises RestokError where its files are damaged.
    """
    state, config = read_tensors(folder.weights_file, device), folder.config
    if folder.is_released:
        state = {name.removeprefix(released_tensors.COMPILED_PREFIX): tensor for name, tensor in state.items()}
        config = released_tensors.without_missing_heads(config, state)
    module = empty_model(config)  # no memory for weights that are about to be replaced
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    if folder.is_released:
        theirs = released_tensors.released_shapes(config, shapes)
        check_tensors(folder.weights_file, theirs, state, released_tensors.is_training_only)
        state = released_tensors.from_released(config, shapes, state)
    else:
        check_tensors(folder.weights_file, shapes, state)
    check_file(folder.weights_file)  # last, as the others know better what is wrong
    check_finite(folder.weights_file, state)
    module.load_state_dict(state, assign=True)
    del state  # so that each tensor is freed as soon as it is converted
    module = module.to(device=device)
    if isinstance(module, Tokenizer):
        on_gpu = device.type == "cuda"
        module.float().to_dtype(dtype, torch.float16 if on_gpu and dtype != torch.float32 else torch.float32)
    else:
        module.to(dtype)
    return module.eval()


def check_finite(path: Path, tensors: dict[str, Tensor]) -> None:
    """Raises RestokError where a tensor in the file at `path` has NaN or an infinity.

    Of NaN in an encoder the first code would come, and in a generator too.
    """
    for name, tensor in tensors.items():
        ends = tensor.float().aminmax() if tensor.numel() else ()  # NaN is either; isfinite of all is ten times slower
        if not all(end.isfinite() for end in ends):
            raise RestokError(
                f"{path}: {name} has numbers that are not finite; what wrote it was damaged, or its training diverged:"
                " give another copy or an earlier checkpoint"
            )


@overload
def empty_model(config: TokenizerConfig) -> Tokenizer: ...
@overload
def empty_model(config: HarConfig) -> Har: ...
def empty_model(config: TokenizerConfig | HarConfig) -> Tokenizer | Har:
    """The layers that a config describes, without weights, in no time and memory."""
    with without_weights():
        return Tokenizer(config) if isinstance(config, TokenizerConfig) else Har(config)


def count_parameters(config: TokenizerConfig | HarConfig) -> int:
    """Of all layers that a config describes."""
    return sum(parameter.numel() for parameter in empty_model(config).parameters())


@overload
def load_for_use(folder: TokenizerFolder, device: torch.device, dtype: torch.dtype = ...) -> Tokenizer: ...
@overload
def load_for_use(folder: HarFolder, device: torch.device, dtype: torch.dtype = ...) -> Har: ...
def load_for_use(folder: ModelFolder, device: torch.device, dtype: torch.dtype = torch.float32) -> Tokenizer | Har:
    """Load a model for use alone, as suits the device: not to be trained, saved or moved any more."""
    rewritten = can_rewrite(device, dtype)
    module = load_model(folder, device, torch.float32 if rewritten else dtype)
    if device.type == "cuda" and dtype != torch.float32:
        module.to(memory_format=torch.channels_last)  # convolutions are twice as fast so (docs/benchmarks.md)
    if rewritten:
        rewrite(module, dtype)
        for tensor in chain(module.parameters(), module.buffers()):
            tensor.data = tensor.data.clone()  # the last views of the file, which stays in memory for as long as one is
    return module


def check_tensors(
    source: Path,
    expected: dict[str, torch.Size],
    found: dict[str, Tensor],
    may_be_left: Callable[[str], bool] = lambda _: False,
) -> None:
    """Raises RestokError that counts and names the tensors that are missing, of another shape, or have no place.

    Those without a place for which `may_be_left` is true do not count.
    """
    wrong = [f"{name} is missing" for name in expected.keys() - found.keys()]
    wrong += [f"{name} has no place" for name in found.keys() - expected.keys() if not may_be_left(name)]
    for name in expected.keys() & found.keys():
        if found[name].shape != expected[name]:
            wrong.append(f"{name} is {tuple(found[name].shape)} instead of {tuple(expected[name])}")
        elif not found[name].is_floating_point():
            wrong.append(f"{name} is of {str(found[name].dtype).removeprefix('torch.')}, not of floating-point numbers")
    if wrong:
        first = "; ".join(sorted(wrong)[:3]) + ("; …" if len(wrong) > 3 else "")
        raise RestokError(f"{source} does not fit its {CONFIG_FILE} in {counted(len(wrong), 'tensor')}: {first}")
