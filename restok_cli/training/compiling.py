"""torch.compile of the networks that a loss looks through (`compute.compile`); cuda/compiler.py has the models."""

from restok_cli.cuda.compiler import compile_methods
from restok_cli.training.adversarial.discriminator import DinoDiscriminator, Discriminator
from restok_cli.training.losses import TokenizerLosses


def compile_losses(losses: TokenizerLosses) -> None:
    """Compile the frozen networks that the loss looks through."""
    if losses.lpips is not None:
        compile_methods([losses.lpips])
    if losses.teacher is not None:
        compile_methods(losses.teacher.network.blocks)


def compile_discriminator(discriminator: Discriminator) -> None:
    """Compile a discriminator, with its frozen part."""
    if isinstance(discriminator, DinoDiscriminator):
        compile_methods(discriminator.dino.network.blocks)
        compile_methods([discriminator], ["judge"])
    else:
        compile_methods([discriminator])
