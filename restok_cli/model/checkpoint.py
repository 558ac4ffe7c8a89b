"""A model is a folder: `config.json` and `model.safetensors`, and nothing else is needed to load it.

A generator's folder also holds the tokenizer that decodes its codes (`tokenizer/`) and the names of its classes.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from restok_cli.errors import RestokError, UsageError
from restok_cli.files import whole_folder
from restok_cli.model.config import HarConfig, TokenizerConfig
from restok_cli.model.har import Har
from restok_cli.model.tokenizer import Tokenizer

FORMAT = "restok-model-1"
CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FOLDER = "config.json", "model.safetensors", "tokenizer"
MADE_BY = {"tokenizer": "restok train-tokenizer", "har": "restok train-har"}

Model = TypeVar("Model", Tokenizer, Har)


class Generator(NamedTuple):
    """All that turns class ids into pictures."""

    har: Har
    tokenizer: Tokenizer
    class_names: list[str]


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the model folder of a tokenizer, whole or not at all."""
    with whole_folder(folder) as temporary:
        _write_model(temporary, "tokenizer", tokenizer, {})


def save_har(har: Har, tokenizer_folder: Path, class_names: list[str], folder: Path) -> None:
    """Write the model folder of a generator, with a copy of its tokenizer."""
    with whole_folder(folder) as temporary:
        extra = {"class_names": class_names, "tokenizer_fingerprint": fingerprint(tokenizer_folder)}
        _write_model(temporary, "har", har, extra)
        (temporary / TOKENIZER_FOLDER).mkdir()
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            shutil.copyfile(tokenizer_folder / name, temporary / TOKENIZER_FOLDER / name)


def load_tokenizer(path: Path, device: torch.device) -> Tokenizer:
    """The tokenizer in a model folder, a run folder, or the model folder of a generator; in evaluation mode.

    Raises UsageError where `path` holds no tokenizer, RestokError where its files are damaged.
    """
    folder = find_tokenizer(path)
    return _load(Tokenizer, read_tokenizer_config(folder), folder, device)


def read_tokenizer_config(folder: Path) -> TokenizerConfig:
    """The config in a tokenizer's model folder. Raises as `load_tokenizer` does."""
    return TokenizerConfig.parse(_read_header(folder, "tokenizer")["config"], str(folder / CONFIG_FILE))


def load_generator(path: Path, device: torch.device, tokenizer_path: Path | None = None) -> Generator:
    """The generator in a model or run folder, with its own tokenizer, or that at `tokenizer_path` if it is the same.

    Raises UsageError where `path` holds no generator or the tokenizer is another, RestokError for damaged files.
    """
    folder = find_model(path, "har")
    header = _read_header(folder, "har")
    if tokenizer_path is not None and fingerprint(find_tokenizer(tokenizer_path)) != header["tokenizer_fingerprint"]:
        raise UsageError(
            f"{path} was trained on the codes of another tokenizer than {tokenizer_path}; "
            "leave --tokenizer out to use the one that is kept with it"
        )
    har = _load(Har, HarConfig.parse(header["config"], str(folder / CONFIG_FILE)), folder, device)
    tokenizer = load_tokenizer(tokenizer_path or folder / TOKENIZER_FOLDER, device)
    return Generator(har, tokenizer, header["class_names"])


def find_model(path: Path, kind: str) -> Path:
    """`path` itself if it is a model folder, or the `model` folder of a run."""
    path = Path(path)
    if not path.exists():
        raise UsageError(f"{path}: no such folder; give a model folder, such as the output of `{MADE_BY[kind]}`")
    for folder in (path, path / "model"):
        if (folder / CONFIG_FILE).is_file():
            return folder
    raise UsageError(f"{path} is not a model: it holds no {CONFIG_FILE}; `{MADE_BY[kind]}` makes one")


def find_tokenizer(path: Path) -> Path:
    """The same for a tokenizer; in a generator's folder, that of its own tokenizer."""
    folder = find_model(path, "tokenizer")
    return folder / TOKENIZER_FOLDER if (folder / TOKENIZER_FOLDER / CONFIG_FILE).is_file() else folder


def fingerprint(folder: Path) -> str:
    """SHA-256 of a model folder's config and weights: two folders with the same one compute the same."""
    digest = hashlib.sha256((folder / CONFIG_FILE).read_bytes())
    with open(folder / WEIGHTS_FILE, "rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write a safetensors file. Raises OSError, also where safetensors hides one (a full disk)."""
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(None, f"cannot write ({error})", str(path)) from error


def read_tensors(path: Path, device: torch.device) -> dict[str, Tensor]:
    """Read a safetensors file. Raises RestokError if it is missing, truncated or not one."""
    try:
        return load_file(path, device=str(device))
    except (SafetensorError, FileNotFoundError) as error:
        raise RestokError(f"{path} cannot be read ({error}); copy or make it again") from error


def load_weights(module: nn.Module, state: dict[str, Tensor], source: Path) -> None:
    """Make `state` the module's weights, without copying. Raises RestokError where names or shapes differ."""
    expected = {name: tensor.shape for name, tensor in module.state_dict().items()}
    for name in sorted(expected.keys() | state.keys()):
        if name not in state:
            raise RestokError(f"{source} lacks the tensor {name}; it does not belong to its {CONFIG_FILE}")
        if name not in expected:
            raise RestokError(f"{source} holds a tensor {name} that its {CONFIG_FILE} has no place for")
        if state[name].shape != expected[name]:
            raise RestokError(
                f"{source}: tensor {name} has shape {tuple(state[name].shape)}, its {CONFIG_FILE} says "
                f"{tuple(expected[name])}"
            )
    module.load_state_dict(state, assign=True)


def _write_model(folder: Path, kind: str, module: nn.Module, extra: dict[str, Any]) -> None:
    header = {"format": FORMAT, "kind": kind, "config": module.config.model_dump(), **extra}
    (folder / CONFIG_FILE).write_text(json.dumps(header, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    write_tensors(module.state_dict(), folder / WEIGHTS_FILE)


def _read_header(folder: Path, kind: str) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RestokError(f"{path} is not JSON ({error}); copy or make the model again") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise UsageError(f"{path} is not a restok model's; `{MADE_BY[kind]}` makes one")
    if header["kind"] != kind:
        raise UsageError(f"{folder} holds a {header['kind']}, but a {kind} is needed; `{MADE_BY[kind]}` makes one")
    return header


def _load(build: type[Model], config: Any, folder: Path, device: torch.device) -> Model:
    with torch.device("meta"):  # no memory for weights that are about to be replaced
        module = build(config)
    load_weights(module, read_tensors(folder / WEIGHTS_FILE, device), folder / WEIGHTS_FILE)
    return module.to(device=device, dtype=torch.float32).eval()
