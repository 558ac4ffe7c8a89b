"""The other player: a discriminator, its optimizer, and when it takes part (docs/algorithm.md section 6)."""

from typing import Any

import torch
from torch import Tensor

from restok_cli.processes import world_size
from restok_cli.settings.training import TokenizerRunConfig
from restok_cli.training.adversarial.discriminator import DinoDiscriminator, LeCam, follow_weights, open_discriminator
from restok_cli.training.losses import discriminator_losses
from restok_cli.training.monitor import mean_of
from restok_cli.training.parallel import Parts, all_reduce, sync_gradients, wrap_ddp
from restok_cli.training.update import Precision, Update, autocast


class Adversary(Parts):
    """All that belongs to the discriminator. It takes part, and learns, from `start_step` on."""

    def __init__(self, config: TokenizerRunConfig, device: torch.device):
        """Raises RestokError where the weights of its frozen part cannot be had."""
        self.config, self.device = config.discriminator, device
        self.precision: Precision = config.compute.precision
        self.network = open_discriminator(config.discriminator, device)
        self.frozen: Any = self.network.dino.network if isinstance(self.network, DinoDiscriminator) else None
        self.in_training = wrap_ddp(self.network)
        self.lecam = LeCam(config.discriminator.lecam_decay).to(device)
        steps = max(1, config.schedule.max_steps - config.discriminator.start_step)
        self.update = Update(self.network, config.discriminator.optimizer, steps, self.precision)
        self.parts = {"network": self.network, "lecam": self.lecam, "update": self.update}  # not what is frozen

    def learn(self, step: int, games: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[dict[str, Tensor], Tensor]:
        """One step of its own on the micro-batches of a step: (images, reconstructions, noise) of each.

        Returns scalars by name, and whether the step moved it.
        """
        terms = []
        for number, (images, fakes, noise) in enumerate(games, start=1):
            with sync_gradients(self.in_training, number == len(games)):
                with autocast(self.device, self.precision):
                    losses = discriminator_losses(self.in_training, images, fakes, self.lecam, noise, self.config)
                self.update.backward(losses["discriminator_loss"] / len(games))
            terms.append(losses)
        norm, moved = self.update.step(step - self.config.start_step)
        follow_weights(self.network)
        scalars = mean_of(terms)
        logits = torch.stack([scalars.pop("real_logits"), scalars.pop("fake_logits")])
        logits = all_reduce(logits) / world_size()
        # its means must not take up what was not finite: they would never be again
        self.lecam.update(*torch.where(logits.isfinite(), logits, torch.stack([self.lecam.real, self.lecam.fake])))
        return scalars | {"discriminator_grad_norm": norm}, moved
