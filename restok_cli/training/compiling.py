"""torch.compile in training, part by part (`compute.compile`).

A step of thousands of small operations is bound by starting them. Blocks are compiled one by one: equal ones share what
the compiler makes, so that it takes seconds for a model of any depth, and DistributedDataParallel still exchanges the
gradients of one block while those of the next are computed.
"""

import logging
from collections.abc import Iterable

import torch
from torch import nn

from restok_cli.model.har import HarBlock
from restok_cli.model.layers import Block
from restok_cli.model.pixel_codec import ResidualBlock
from restok_cli.training.adversarial.discriminator import DinoDiscriminator, Discriminator
from restok_cli.training.losses import TokenizerLosses

# A block is called whole, or where image tokens are merged inside it, by halves.
METHODS = {Block: ("forward", "attend", "feed"), ResidualBlock: ("forward",), HarBlock: ("forward",)}
# Maps of a pixel codec differ in size and channels, and each kind is compiled once; torch would give up after 8.
MOST_KINDS = 64


def compile_model(model: nn.Module) -> None:
    """Compile the blocks of a tokenizer or generator, in place; a copy made before stays as it is."""
    for module in model.modules():
        _compile([module], METHODS.get(type(module), ()))


def compile_losses(losses: TokenizerLosses) -> None:
    """Compile the frozen networks that the loss looks through."""
    if losses.lpips is not None:
        _compile([losses.lpips])
    if losses.teacher is not None:
        _compile(losses.teacher.network.blocks)


def compile_discriminator(discriminator: Discriminator) -> None:
    """Compile a discriminator, with its frozen part."""
    if isinstance(discriminator, DinoDiscriminator):
        _compile(discriminator.dino.network.blocks)
        _compile([discriminator], ["judge"])
    else:
        _compile([discriminator])


def _compile(modules: Iterable[nn.Module], methods: Iterable[str] = ("forward",)) -> None:
    """Compile these methods of the modules; hooks, such as those of shards, stay outside."""
    config = torch._dynamo.config  # there is no other way to say it
    config.cache_size_limit = max(config.cache_size_limit, MOST_KINDS)
    config.optimize_ddp = False  # for whole models, which it cuts into parts
    # warns of operations in place between what is computed again, of which there are none (tests/test_compiling.py)
    logging.getLogger("torch._higher_order_ops.wrap").setLevel(logging.ERROR)
    for module in modules:
        for method in methods:
            setattr(module, method, torch.compile(getattr(module, method), dynamic=False))
