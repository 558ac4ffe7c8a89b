"""torch.compile: whether it is to be used, and works, and what of a model it compiles.

Thousands of small operations are bound by starting them. Blocks are compiled one by one: equal ones share what the
compiler makes, so that it takes seconds for a model of any depth, and in training DistributedDataParallel still
exchanges the gradients of one block while those of the next are computed.
"""

import logging
import warnings
from collections.abc import Iterable
from typing import Literal

import torch
from torch import nn

from restok_cli.console import note
from restok_cli.model.har import HarBlock
from restok_cli.model.layers import Block
from restok_cli.model.pixel_codec import ResidualBlock

# A block is called whole, or where image tokens are merged inside it, by halves.
METHODS = {Block: ("forward", "attend", "feed"), ResidualBlock: ("forward",), HarBlock: ("forward",)}
# Maps of a pixel codec differ in size and channels, and steps of drawing in positions. Each kind is compiled once, and
# torch would give up after 8.
MOST_KINDS = 64


def is_wanted(choice: bool | Literal["auto"], device: torch.device, off: str) -> bool:
    """Whether to compile: `choice`, or for "auto", on a GPU where it works.

    Why not is said, and what turns it `off`.
    """
    # advice of torch 2.11, against what the precision that was asked for has decided
    warnings.filterwarnings("ignore", "TensorFloat32 tensor cores", UserWarning)
    if choice != "auto":
        return choice
    if device.type != "cuda":
        return False
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(8, device=device))
    except Exception as error:  # whatever a compiler, or the lack of one, raises
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        note(f"nothing is compiled, since torch.compile fails here ({reason}); {off} is silent")
        return False
    return True


def compile_model(model: nn.Module) -> None:
    """Compile the blocks of a tokenizer or generator, in place; a copy made before stays as it is."""
    for module in model.modules():
        compile_methods([module], METHODS.get(type(module), ()))


def compile_methods(modules: Iterable[nn.Module], methods: Iterable[str] = ("forward",)) -> None:
    """Compile these methods of the modules; hooks, such as those of shards, stay outside."""
    config = torch._dynamo.config  # there is no other way to say it
    config.cache_size_limit = max(config.cache_size_limit, MOST_KINDS)
    config.optimize_ddp = False  # for whole models, which it cuts into parts
    # warns of operations in place between what is computed again, of which there are none (tests/test_compiling.py)
    logging.getLogger("torch._higher_order_ops.wrap").setLevel(logging.ERROR)
    for module in modules:
        for method in methods:
            setattr(module, method, torch.compile(getattr(module, method), dynamic=False))
