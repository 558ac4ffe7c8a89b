"""Frozen vision models whose features the tokenizer's are aligned with (docs/algorithm.md section 2, VF loss)."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from restok_cli.settings.training import AlignmentConfig
from restok_cli.training.frozen import build, normalisation, open_frozen


class TeacherFeatures(NamedTuple):
    """Features of a teacher, float32."""

    image: Tensor  # (B, T): of its class token, or the mean of the patches where it has none
    patches: Tensor  # (B, T, h, w): one for each image token of the tokenizer


class Teacher:
    """A ViT of timm with its last norm. Not a module, so no model, average, optimizer or checkpoint can contain it.

    Images are resized until their patches are the tokenizer's image tokens: a 16×16 grid is 256×256 pixels for
    patches of 16 (DINOv3), 224×224 for patches of 14 (DINOv2). Learned positions were resized when it was opened, and
    the tables of rotary ones are made here, once.
    """

    def __init__(self, network: nn.Module, grid: tuple[int, int]):
        self.network: Any = network  # timm's, whose classes share these attributes and no type
        self.grid = grid
        self.mean, self.std = normalisation(network)
        if rope := getattr(network, "rope", None):
            # timm makes these tables on the CPU in every pass, and the host waits while they go to the device
            tables = rope.get_embed(shape=grid)
            rope.get_embed = lambda shape=None: tables

    @torch.no_grad()
    def __call__(self, images: Tensor) -> TeacherFeatures:
        """images (B, 3, H, W) in [0, 1] -> features. Runs in autocast's dtype where that is on."""
        size = input_size(self.network, self.grid)
        if images.shape[-2:] != size:
            images = F.interpolate(images, size, mode="bicubic", antialias=True)
        tokens = self.network.forward_features((images - self.mean) / self.std)
        tokens = self.network.fc_norm(tokens).float()  # (B, prefix + h·w, T); the last norm of those that pool patches
        patches = tokens[:, self.network.num_prefix_tokens :]
        image = patches.mean(1) if self.network.cls_token is None else tokens[:, 0]
        return TeacherFeatures(image, rearrange(patches, "b (h w) t -> b t h w", h=self.grid[0]))


def input_size(network: Any, grid: tuple[int, int]) -> tuple[int, int]:
    """Height and width in pixels of the images that `network` cuts into `grid` (rows, columns) patches."""
    height, width = network.patch_embed.patch_size
    return grid[0] * height, grid[1] * width


def open_teacher(config: AlignmentConfig, grid: tuple[int, int], device: torch.device) -> Teacher:
    """The teacher of a run, for a tokenizer with `grid` image tokens. Raises RestokError, see `open_frozen`."""
    size = input_size(build(config.teacher, "alignment.teacher"), grid)
    return Teacher(open_frozen(config.teacher, config.weights, size, device, "alignment"), grid)


def teacher_width(name: str) -> int:
    """The channels of the features that the teacher of that name gives; no weights are needed."""
    network: Any = build(name, "alignment.teacher")
    return network.num_features
