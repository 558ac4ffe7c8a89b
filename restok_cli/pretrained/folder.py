"""A model is a folder: `config.json` and `model.safetensors`, and nothing else is needed to load it.

A generator's folder also holds the tokenizer that decodes its codes (`tokenizer/`) and the names of its classes. Beside
them lie the model card (see card.py) and `checksums.json`, by which damage is seen (see checksums.py). The folders that
the authors of the paper released are read as they are, from disk or from the Hugging Face hub.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, overload

import torch
from pydantic import BaseModel
from torch import Tensor

from restok_cli.console import counted
from restok_cli.cpu.rewrite import can_rewrite, rewrite
from restok_cli.errors import RestokError, UsageError
from restok_cli.files import HUB_PREFIX, file_sha256, read_whole, whole_folder
from restok_cli.model.config import HarConfig, TokenizerConfig
from restok_cli.model.empty import without_weights
from restok_cli.model.har import Har
from restok_cli.model.size import check_model_memory
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained import released
from restok_cli.pretrained.checksums import CHECKSUMS_FILE, REMEDY, check_file, write_checksums
from restok_cli.schema import Fields, check, read_json
from restok_cli.weights import read_tensors, write_tensors

FORMAT = "restok-model-1"
CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FOLDER = "config.json", "model.safetensors", "tokenizer"
PICKLED_WEIGHTS_FILE = "pytorch_model.bin"  # in some released folders
CARD_FILE, RECORD_FILE = "README.md", "card.json"
MODEL_FILES = (CONFIG_FILE, WEIGHTS_FILE, PICKLED_WEIGHTS_FILE, RECORD_FILE, CARD_FILE, CHECKSUMS_FILE)
ALL_FILES = (*MODEL_FILES, *(f"{TOKENIZER_FOLDER}/{name}" for name in MODEL_FILES))  # with a generator's tokenizer
MADE_BY = {"tokenizer": "restok train-tokenizer", "har": "restok train-har"}

Kind = Literal["tokenizer", "har"]
Describe = Callable[[Path], None]  # puts the card into a model folder that has all else


@dataclass(frozen=True)
class _Folder:
    path: Path
    is_released: bool  # in the authors' layout

    @property
    def weights_file(self) -> Path:
        ours, pickled = self.path / WEIGHTS_FILE, self.path / PICKLED_WEIGHTS_FILE
        return pickled if self.is_released and not ours.exists() and pickled.exists() else ours


@dataclass(frozen=True)
class TokenizerFolder(_Folder):
    """Facts of a tokenizer's folder, as its config file states them."""

    kind: ClassVar[Literal["tokenizer"]] = "tokenizer"
    config: TokenizerConfig


@dataclass(frozen=True)
class HarFolder(_Folder):
    """Facts of a generator's folder, as its config file states them."""

    kind: ClassVar[Literal["har"]] = "har"
    config: HarConfig
    class_names: list[str]  # empty where it has no classes
    tokenizer_fingerprint: str | None  # of the tokenizer whose codes it draws; None where nobody wrote it down


ModelFolder = TokenizerFolder | HarFolder
OneKind = TypeVar("OneKind", TokenizerFolder, HarFolder)


class _Header(BaseModel):
    """Fields of a `config.json` of ours beside format and kind."""

    config: Fields


class _HarHeader(_Header):
    class_names: list[str]
    tokenizer_fingerprint: str | None


# --- writing -----------------------------------------------------------------------------------------------------


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


def copy_model(model: ModelFolder, folder: Path) -> None:
    """Copy a model and its card into an existing folder; a generator's tokenizer is not part of it."""
    for file in model_files(model):
        shutil.copyfile(file, folder / file.name)


def model_files(model: ModelFolder) -> list[Path]:
    """Files of a model: config, weights and, where they are there, card and checksums; no tokenizer.

    Raises RestokError where the weights are damaged, so that they are not spread.
    """
    check_file(model.weights_file)
    more = (model.path / name for name in (RECORD_FILE, CARD_FILE, CHECKSUMS_FILE))
    return [model.path / CONFIG_FILE, model.weights_file, *(file for file in more if file.is_file())]


def save_released(module: Tokenizer | Har, folder: Path, describe: Describe = lambda _: None) -> None:
    """Write a model in the layout of the authors' releases. Raises UsageError where that cannot express it."""
    config = module.config
    if isinstance(config, TokenizerConfig):
        header = released.released_tokenizer_config(config)
    else:
        header = released.released_har_config(config)
    with whole_folder(folder) as temporary:
        (temporary / CONFIG_FILE).write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")
        write_tensors(released.to_released(config, module.state_dict()), temporary / WEIGHTS_FILE)
        write_checksums(temporary, (CONFIG_FILE, WEIGHTS_FILE))
        describe(temporary)


def _write_model(folder: Path, kind: Kind, module: Tokenizer | Har, extra: dict[str, Any]) -> None:
    header = {"format": FORMAT, "kind": kind, "config": module.config.model_dump(), **extra}
    (folder / CONFIG_FILE).write_text(json.dumps(header, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    write_tensors(module.state_dict(), folder / WEIGHTS_FILE)
    write_checksums(folder, (CONFIG_FILE, WEIGHTS_FILE))


# --- reading -----------------------------------------------------------------------------------------------------


def open_tokenizer(path: Path) -> TokenizerFolder:
    """The tokenizer at `path`: a model folder, a run folder, `hf:owner/name`, or a generator that has one with it.

    Raises UsageError where there is none.
    """
    folder = find_model(path, "tokenizer")
    own = folder / TOKENIZER_FOLDER
    return _open(own if (own / CONFIG_FILE).is_file() else folder, TokenizerFolder)


def find_tokenizer(har: HarFolder, path: Path, tokenizer_path: Path | None) -> TokenizerFolder:
    """The tokenizer for the generator at `path`: its own, or that at `tokenizer_path` if it is the same.

    Raises UsageError where there is none, or another one.
    """
    if tokenizer_path is None and not (har.path / TOKENIZER_FOLDER).is_dir():
        raise UsageError(f"{path} has no tokenizer with it; give the one that it was trained with by --tokenizer")
    tokenizer = open_tokenizer(tokenizer_path or har.path / TOKENIZER_FOLDER)
    if tokenizer_path is not None:
        _check_same_tokenizer(har, tokenizer, path, tokenizer_path)
    return tokenizer


def open_har(path: Path) -> HarFolder:
    """The generator at `path`: a model folder, a run folder or `hf:owner/name`.

    Raises UsageError where there is none.
    """
    return _open(find_model(path, "har"), HarFolder)


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
        state = {name.removeprefix(released.COMPILED_PREFIX): tensor for name, tensor in state.items()}
        config = released.without_missing_heads(config, state)
    module = empty_model(config)  # no memory for weights that are about to be replaced
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    if folder.is_released:
        theirs = released.released_shapes(config, shapes)
        check_tensors(folder.weights_file, theirs, state, released.is_training_only)
        state = released.from_released(config, shapes, state)
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


def find_model(path: Path, kind: Kind) -> Path:
    """The folder with the model that `path` means: itself, the `model` folder of a run, or a copy from the hub."""
    if str(path).startswith(HUB_PREFIX):
        return download(str(path).removeprefix(HUB_PREFIX))
    if not path.exists():
        raise UsageError(f"{path}: no such folder; give a model folder, such as the output of `{MADE_BY[kind]}`")
    for folder in (path, path / "model"):
        if (folder / CONFIG_FILE).is_file():
            return folder
    raise UsageError(f"{path} is not a model: it holds no {CONFIG_FILE}; `{MADE_BY[kind]}` makes one")


def download(name: str) -> Path:
    """The local copy of the hub's model `owner/name` or `owner/name@revision`; only what is not there is downloaded.

    Raises RestokError where it is neither there nor to be had.
    """
    from huggingface_hub import snapshot_download  # half a second that local models need not pay
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(ALL_FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RestokError(
            f"{HUB_PREFIX}{name} cannot be downloaded ({reason}); check name and connection, or give a local folder"
        ) from error


def fingerprint(model: ModelFolder) -> str:
    """SHA-256 of a model's config and weights files: two folders with the same one compute the same."""
    config = read_whole(model.path / CONFIG_FILE)
    return hashlib.sha256(config + bytes.fromhex(file_sha256(model.weights_file))).hexdigest()


def found_fingerprint(har: HarFolder, tokenizer: TokenizerFolder, tokenizer_path: Path | None) -> str:
    """That of the tokenizer that `find_tokenizer` found; files of gigabytes that it has compared are not read again."""
    compared = None if tokenizer_path is None else har.tokenizer_fingerprint
    return compared or fingerprint(tokenizer)


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


def open_any(path: Path) -> ModelFolder:
    """The model at `path`, of either kind. Raises UsageError where there is none."""
    return open_model(find_model(path, "tokenizer"))


def open_model(folder: Path) -> ModelFolder:
    """Open the model folder `folder`, of whichever kind.

    Raises UsageError where it is not one or is too large for this machine, RestokError where its config is damaged.
    """
    path = folder / CONFIG_FILE
    header = read_json(Fields, path, REMEDY)
    is_ours = header.get("format") == FORMAT
    match header.get("kind") if is_ours else released.kind_of(header), is_ours:
        case "tokenizer", True:
            config = TokenizerConfig.parse(check(_Header, header, str(path), REMEDY).config, str(path))
            model = TokenizerFolder(folder, False, config)
        case "tokenizer", False:
            model = TokenizerFolder(folder, True, released.tokenizer_config(header, str(path)))
        case "har", True:
            found = check(_HarHeader, header, str(path), REMEDY)
            config, names = HarConfig.parse(found.config, str(path)), found.class_names
            if len(names) != config.num_classes:
                raise RestokError(f"{path} names {len(names)} of its {config.num_classes} classes; copy it again")
            model = HarFolder(folder, False, config, names, found.tokenizer_fingerprint)
        case "har", False:
            config = released.har_config(header, str(path))
            model = HarFolder(folder, True, config, [str(class_id) for class_id in range(config.num_classes)], None)
        case _:
            raise UsageError(f"{path} is not a restok model's; `restok models` says what is")
    check_file(path)  # last, as the others know better what is wrong
    check_model_memory(model.config, f"{path}: ")
    return model


def _open(folder: Path, kind: type[OneKind]) -> OneKind:
    model = open_model(folder)
    if not isinstance(model, kind):
        needed = kind.kind
        raise UsageError(f"{folder} holds a {model.kind}, but a {needed} is needed; `{MADE_BY[needed]}` makes one")
    return model


def _check_same_tokenizer(har: HarFolder, tokenizer: TokenizerFolder, path: Path, tokenizer_path: Path) -> None:
    if har.tokenizer_fingerprint is None:  # a released generator only says what its codes look like
        ours = har.config.codebook_size, har.config.num_codes
        theirs = tokenizer.config.codebook_size, tokenizer.config.num_latent_tokens
        if ours != theirs:
            raise UsageError(
                f"{path} draws {ours[1]} of {ours[0]} codes, {tokenizer_path} makes {theirs[1]} of {theirs[0]}; "
                "give the tokenizer that the generator was trained with"
            )
    elif har.tokenizer_fingerprint != fingerprint(tokenizer):
        raise UsageError(
            f"{path} was trained on the codes of another tokenizer than {tokenizer_path}; "
            "leave --tokenizer out to use the one that is kept with it"
        )
