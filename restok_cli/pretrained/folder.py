"""A model is a folder: `config.json` and `model.safetensors`, and nothing else is needed to load it.

A generator's folder also holds the tokenizer that decodes its codes (`tokenizer/`) and the names of its classes. Beside
them lie the model card (see card.py) and `checksums.json`, by which damage is seen (see checksums.py). The folders that
the authors of the paper released are read as they are, from disk or from the Hugging Face hub. No torch here: what a
folder says of itself is known at once; modules.py loads its weights.
"""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from pydantic import BaseModel

from restok_cli.errors import RestokError, UsageError
from restok_cli.files import HUB_PREFIX, file_sha256, read_whole
from restok_cli.model.config import HarConfig, TokenizerConfig
from restok_cli.model.size import check_model_memory
from restok_cli.pretrained import released
from restok_cli.pretrained.checksums import CHECKSUMS_FILE, REMEDY, check_file
from restok_cli.schema import Fields, check, read_json

FORMAT = "restok-model-1"
CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FOLDER = "config.json", "model.safetensors", "tokenizer"
PICKLED_WEIGHTS_FILE = "pytorch_model.bin"  # in some released folders
CARD_FILE, RECORD_FILE = "README.md", "card.json"
MODEL_FILES = (CONFIG_FILE, WEIGHTS_FILE, PICKLED_WEIGHTS_FILE, RECORD_FILE, CARD_FILE, CHECKSUMS_FILE)
ALL_FILES = (*MODEL_FILES, *(f"{TOKENIZER_FOLDER}/{name}" for name in MODEL_FILES))  # with a generator's tokenizer
Kind = Literal["tokenizer", "har"]
MADE_BY: dict[Kind | None, str] = {"tokenizer": "`restok train-tokenizer`", "har": "`restok train-har`"}
MADE_BY[None] = " or ".join(MADE_BY.values())
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
    name: ClassVar[str] = "tokenizer"
    config: TokenizerConfig


@dataclass(frozen=True)
class HarFolder(_Folder):
    """Facts of a generator's folder, as its config file states them."""

    kind: ClassVar[Literal["har"]] = "har"
    name: ClassVar[str] = "generator"
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


def find_model(path: Path, kind: Kind | None = None) -> Path:
    """The folder with the model that `path` means: itself, the `model` folder of a run, or a copy from the hub.

    Raises UsageError where there is none, and names what makes one, of the `kind` where one is wanted.
    """
    if str(path).startswith(HUB_PREFIX):
        return download(str(path).removeprefix(HUB_PREFIX))
    if not path.exists():
        raise UsageError(f"{path}: no such folder; give a model folder, such as the output of {MADE_BY[kind]}")
    for folder in (path, path / "model"):
        if (folder / CONFIG_FILE).is_file():
            return folder
    raise UsageError(f"{path} is not a model: it holds no {CONFIG_FILE}; {MADE_BY[kind]} makes one")


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


def open_any(path: Path) -> ModelFolder:
    """The model at `path`, of either kind. Raises UsageError where there is none."""
    return open_model(find_model(path))


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
        raise UsageError(f"{folder} holds a {model.name}, but a {kind.name} is needed; {MADE_BY[kind.kind]} makes one")
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
