"""restok: hierarchical residual 1-D image tokenizers and next-hierarchy image generators (arXiv 2601.03955).

    import restok_cli

    generator = restok_cli.load_generator("sample")
    generator.generate(["cat-face"], count=8).to_pil()[0].save("cat.png")

docs/python.md has more. To import this takes no time: torch comes with the first name that is used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from restok_cli.api import (
        DecodedImages,
        GeneratedImages,
        ImageGenerator,
        ImageTokenizer,
        RestokError,
        UsageError,
        load_generator,
        load_tokenizer,
    )

__all__ = [
    "DecodedImages",
    "GeneratedImages",
    "ImageGenerator",
    "ImageTokenizer",
    "RestokError",
    "UsageError",
    "load_generator",
    "load_tokenizer",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from restok_cli import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
