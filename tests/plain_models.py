"""Models as their folders hold them: load_for_use would rewrite them for a CPU."""

from pathlib import Path
from typing import NamedTuple

import torch

from restok_cli.model.har import Har
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained.folder import find_tokenizer, open_har, open_tokenizer
from restok_cli.pretrained.modules import load_model


class PlainGenerator(NamedTuple):
    har: Har
    tokenizer: Tokenizer
    class_names: list[str]


def plain_tokenizer(path: Path, device: torch.device, dtype: torch.dtype = torch.float32) -> Tokenizer:
    return load_model(open_tokenizer(path), device, dtype)


def plain_generator(
    path: Path, device: torch.device, dtype: torch.dtype = torch.float32, tokenizer_path: Path | None = None
) -> PlainGenerator:
    har = open_har(path)
    tokenizer = load_model(find_tokenizer(har, path, tokenizer_path), device, dtype)
    return PlainGenerator(load_model(har, device, dtype), tokenizer, har.class_names)
