"""Models written anew: in the other layout, in 16 bits."""

from functools import partial
from pathlib import Path

import torch

from restok_cli.errors import UsageError
from restok_cli.files import check_apart, check_output_folder
from restok_cli.model.har import Har
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained.card import read_record, write_card
from restok_cli.pretrained.folder import (
    ALL_FILES,
    CONFIG_FILE,
    MODEL_FILES,
    TOKENIZER_FOLDER,
    Describe,
    HarFolder,
    ModelFolder,
    TokenizerFolder,
    open_any,
    open_tokenizer,
)
from restok_cli.pretrained.modules import load_model, save_har, save_released, save_tokenizer


def convert_model(model: Path, out: Path, overwrite: bool) -> None:
    """Write a model in the other layout; a generator's own tokenizer is not converted with it.

    Raises UsageError where the released layout cannot say what it is, or `out` holds what may not be replaced.
    """
    folder = _open_to_rewrite(model, out, overwrite, MODEL_FILES)
    module = load_model(folder, torch.device("cpu"))
    if folder.is_released:
        _save(module, None, folder, out)
    else:
        save_released(module, out, _card_of(folder))


def halve_model(model: Path, out: Path, overwrite: bool) -> None:
    """Write a model with its weights rounded to 16 bits; a generator's own tokenizer is copied as it is.

    Raises UsageError where it has the released layout, or `out` holds what may not be replaced.
    """
    folder = _open_to_rewrite(model, out, overwrite, ALL_FILES)
    if folder.is_released:
        raise UsageError(f"{model} has the released layout; bring it into ours first: restok models convert {model} …")
    has_tokenizer = (folder.path / TOKENIZER_FOLDER).is_dir()
    module = load_model(folder, torch.device("cpu")).half()
    _save(module, open_tokenizer(folder.path) if has_tokenizer else None, folder, out)


def _open_to_rewrite(model: Path, out: Path, overwrite: bool, files: tuple[str, ...]) -> ModelFolder:
    """The model that is to be written anew to `out`, a folder which may then have `files`."""
    # a README.md is a model's only beside its config
    check_output_folder(out, overwrite, (files if (out / CONFIG_FILE).is_file() else ()).__contains__, whole=True)
    folder = open_any(model)
    check_apart(out, folder.path, folder.path / TOKENIZER_FOLDER)
    return folder


def _save(module: Tokenizer | Har, tokenizer: TokenizerFolder | None, folder: ModelFolder, out: Path) -> None:
    """Write what was made of the model in `folder` in restok's layout, with a generator's tokenizer if it is known."""
    match module, folder:
        case Tokenizer(), _:
            save_tokenizer(module, out, _card_of(folder))
        case Har(), HarFolder():
            save_har(module, tokenizer, folder.class_names, out, _card_of(folder), folder.tokenizer_fingerprint)


def _card_of(folder: ModelFolder) -> Describe:
    """A function that writes the card of a model that was made of the one in `folder`."""
    return partial(write_card, record=read_record(folder.path))
