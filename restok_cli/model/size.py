"""How much memory a model asks for, by arithmetic on its config, before it is made. No torch here."""

from collections.abc import Callable
from typing import TypeVar

from restok_cli.errors import UsageError
from restok_cli.model.config import Config, HarConfig, TokenizerConfig
from restok_cli.room import size_text, total_memory

AnyConfig = TypeVar("AnyConfig", bound=Config)


def check_model_memory(config: TokenizerConfig | HarConfig, source: str = "", section: str = "") -> None:
    """Raises UsageError where a model takes more than this machine's memory beside its weights.

    It names the setting that makes the most of it, after the `source` of the config and its `section` there.
    """
    needed, room = config.least_memory, total_memory()
    if needed > room:
        name = largest_setting(lambda model: model.least_memory, config)
        setting = f"{section}{name} = {getattr(config, name)}" if name else "this model"
        raise UsageError(
            f"{source}{setting} needs at least {size_text(needed)} of memory beside its weights, and here are"
            f" {size_text(room)}; {f'lower {section}{name}' if name else 'take a smaller one'}"
        )


def largest_setting(size: Callable[[AnyConfig], float], config: AnyConfig) -> str | None:
    """The number in a config that adds most to its `size` against the default's; None where none does.

    `size` is also asked about configs that are not valid, since not every default goes with the other settings.
    """
    best, largest = size(config), None
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if type(value) is int and value > (field.default or 0):
            found = size(config.model_copy(update={name: field.default}))
            if found < best:
                best, largest = found, name
    return largest
