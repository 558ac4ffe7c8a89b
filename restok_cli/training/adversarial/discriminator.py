"""Networks that tell reconstructions from real images (docs/algorithm.md section 2, discriminator)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, register_parametrization

from restok_cli.settings.training import DINO, DiscriminatorConfig
from restok_cli.training.adversarial.diff_augment import window
from restok_cli.training.frozen import normalisation, open_frozen
from restok_cli.training.resampling import area_weights, max_of_areas, resample, stretching_weights

FIT_NOISE = 3  # random numbers for one look at one image
DINO_SIZE = 224  # pixels along each side of what it was trained on
DINO_DEPTHS = (0, 3, 6, 9, 12)  # blocks that features have passed
GROUP = 8  # images that share batch statistics
PATCH_GRID = (16, 16)  # of what a PatchGAN judges, whatever the images' size


class Dino:
    """The frozen backbone. Not a module: `train`, `state_dict` and optimizers of what looks through it pass it by."""

    def __init__(self, network: nn.Module):
        self.network: Any = network  # timm's, whose classes share these attributes and no type
        self.mean, self.std = normalisation(network)

    def __call__(self, images: Tensor) -> list[Tensor]:
        """images (B, 3, 224, 224) in [0, 1] -> features (B, C, N) at each depth: patch tokens + the class token."""
        vit = self.network
        patches = vit.patch_embed((images - self.mean) / self.std)  # (B, N, C)
        tokens = torch.cat([vit.cls_token.expand(len(patches), -1, -1), patches], dim=1) + vit.pos_embed
        features = [tokens]
        for depth, block in enumerate(vit.blocks, start=1):
            tokens = block(tokens)
            if depth in DINO_DEPTHS:
                features.append(tokens)
        return [(tokens[:, 1:] + tokens[:, :1]).mT for tokens in features]


class VirtualBatchNorm(nn.Module):
    """Batch norm over (B, C, N) with the statistics of small groups of images, in training and afterwards.

    A batch is cut, in order, into the fewest groups of at most GROUP images, as equal as can be: 16 into 8 + 8, 20
    into 7 + 7 + 6, and one image is normalised over its own positions. Where micro-batches are multiples of GROUP,
    it does not matter how the batch of a step is cut into them. Of several batches as long as each other, one after
    the other, each is cut by itself.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor, batches: int = 1) -> Tensor:
        size = len(features) // batches
        number = -(-size // GROUP)
        sizes = [size // number + (i < size % number) for i in range(number)]
        groups = features.split(sizes * batches)
        return torch.cat([F.batch_norm(g, None, None, self.weight, self.bias, True, eps=1e-6) for g in groups])


class Residual(nn.Module):
    """(x + f(x)) / √2: of the same variance where x and f(x) have it."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, features: Tensor, batches: int) -> Tensor:
        return (features + self.inner(features, batches)) * 0.5**0.5


class SpectralNorm(nn.Module):
    """Divide a weight by an estimate of its largest singular value: u·Wv for unit vectors that `iterate` moves.

    A pass forward moves nothing, in training neither (the parametrization of torch would); see `follow_weights`.
    """

    def __init__(self, weight: Tensor):
        super().__init__()
        rows, columns = weight.flatten(1).shape
        self.register_buffer("_u", F.normalize(torch.randn(rows), dim=0))
        self.register_buffer("_v", F.normalize(torch.randn(columns), dim=0))
        for _ in range(15):
            self.iterate(weight)

    def forward(self, weight: Tensor) -> Tensor:
        # by elements: autocast would take a product of matrices to half precision
        return weight / (weight.flatten(1) * torch.outer(self._u, self._v)).sum()

    @torch.no_grad()
    def iterate(self, weight: Tensor) -> None:
        matrix = weight.flatten(1)
        self._v = F.normalize(matrix.T @ self._u, dim=0)  # new tensors: a backward pass may still need the old ones
        self._u = F.normalize(matrix @ self._v, dim=0)


def convolution(inputs: int, outputs: int, width: int) -> nn.Conv1d:
    """`width` neighbours along a circle of positions, under spectral norm."""
    layer = nn.Conv1d(inputs, outputs, width, padding=width // 2, padding_mode="circular")
    register_parametrization(layer, "weight", SpectralNorm(layer.weight))
    return layer


class HeadBlock(nn.Sequential):
    def __init__(self, channels: int, width: int):
        super().__init__(convolution(channels, channels, width), VirtualBatchNorm(channels), nn.LeakyReLU(0.2))

    def forward(self, features: Tensor, batches: int) -> Tensor:
        convolve, normalise, activate = self
        return activate(normalise(convolve(features), batches))


class Head(nn.Sequential):
    """Features (B, C, N) -> logits (B, 1, N)."""

    def __init__(self, channels: int):
        blocks = HeadBlock(channels, 1), Residual(HeadBlock(channels, 9))
        super().__init__(*blocks, convolution(channels, 1, 1))

    def forward(self, features: Tensor, batches: int) -> Tensor:
        *blocks, convolve = self
        for block in blocks:
            features = block(features, batches)
        return convolve(features)


class DinoDiscriminator(nn.Module):
    """A small head on each depth of a frozen DINO (StyleGAN-T). Only the heads are trained, and only they are saved."""

    def __init__(self, dino: Dino):
        super().__init__()
        self.dino = dino
        channels = dino.network.num_features
        self.heads = nn.ModuleList(Head(channels) for _ in DINO_DEPTHS)

    def forward(self, images: Tensor, noise: Tensor, batches: int = 1) -> Tensor:
        """images (B, 3, H, W) about [0, 1], noise (B, FIT_NOISE) for `fit` -> logits (B, 5 · 196), high for real.

        Of several `batches`, as long as each other and one after the other, each is judged as if it were alone.
        """
        return self.judge(self.dino(fit(images, noise)), batches)

    def judge(self, features: list[Tensor], batches: int) -> Tensor:
        """Features (B, C, N) at each depth -> logits (B, 5 · N)."""
        return torch.cat([head(f, batches).flatten(1) for head, f in zip(self.heads, features, strict=True)], dim=1)


def fit(images: Tensor, noise: Tensor) -> Tensor:
    """Images (B, 3, H, W) as DINO takes them, (B, 3, 224, 224).

    Larger ones are, half each, shrunk or cropped at a random place, by their row of `noise`: whether, row, column.
    Where a side is shorter, all are stretched: the few tokens of a small image would say little.
    """
    height, width = images.shape[-2:]
    size = (DINO_SIZE, DINO_SIZE)
    if min(height, width) < DINO_SIZE:
        return resample(images, *(stretching_weights(DINO_SIZE, n, images.device) for n in (height, width)))
    if (height, width) == size:
        return images
    top = (noise[:, 1] * (height - DINO_SIZE + 1)).long()
    left = (noise[:, 2] * (width - DINO_SIZE + 1)).long()
    is_cropped = noise[:, 0, None, None, None] < 0.5
    shrunk = resample(images, *(area_weights(DINO_SIZE, n, images.device) for n in (height, width)))
    return torch.where(is_cropped, window(images, top, left, size), shrunk)


class Blur(nn.Module):
    """Half the size, each pixel the weighted mean (1, 3, 3, 1) of the four around it in rows and columns (StyleGAN).

    Outside the image there is 0.
    """

    kernel: Tensor

    def __init__(self):
        super().__init__()
        line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", line[:, None] * line, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        channels = features.shape[1]
        kernel = self.kernel.to(features.dtype).expand(channels, 1, -1, -1)
        return F.conv2d(features, kernel, stride=2, padding=1, groups=channels)


class PatchDiscriminator(nn.Module):
    """PatchGAN: convolutions that judge patches of 8 pixels by their neighbourhood, the highest features of a few
    neighbours together. No statistics over the batch."""

    def __init__(self, channels: int = 128):
        super().__init__()
        layers = [nn.Conv2d(3, channels, 5, padding=2), nn.LeakyReLU(0.1)]
        for multiplier in (1, 2, 4):
            inputs, outputs = max(1, multiplier // 2) * channels, multiplier * channels
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), Blur(), nn.GroupNorm(32, outputs), nn.LeakyReLU(0.1)]
        layers += [nn.Conv2d(outputs, outputs, 1), nn.LeakyReLU(0.1), nn.Conv2d(outputs, 1, 5, padding=2)]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor, noise: Tensor, batches: int = 1) -> Tensor:
        """images (B, 3, H, W) about [0, 1] -> logits (B, 16 · 16), high for real. Sees all of each, by itself."""
        features = max_of_areas(self.layers[:-3](images), PATCH_GRID)
        return self.layers[-3:](features).flatten(1)


Discriminator = DinoDiscriminator | PatchDiscriminator


def open_discriminator(config: DiscriminatorConfig, device: torch.device) -> Discriminator:
    """A new discriminator on `device`. Raises RestokError where DINO's weights cannot be had, see `open_frozen`."""
    if config.kind == "patch":
        return PatchDiscriminator().to(device)
    network = open_frozen(DINO, config.weights, (DINO_SIZE, DINO_SIZE), device, "discriminator")
    return DinoDiscriminator(Dino(network)).to(device)


def follow_weights(discriminator: nn.Module) -> None:
    """Bring the estimates of spectral norms closer to the weights, by one power iteration.

    Once a step of the optimizer: then it does not matter in how many micro-batches and processes the step is cut. (The
    released code does so in every pass forward, three times a step.)
    """
    for weight in discriminator.modules():
        if isinstance(weight, ParametrizationList) and isinstance(norm := weight[0], SpectralNorm):
            norm.iterate(weight.original)


@contextmanager
def held_still(discriminator: nn.Module) -> Iterator[None]:
    """A pass forward in the block leads no gradients to the parameters."""
    discriminator.requires_grad_(False)
    try:
        yield
    finally:
        discriminator.requires_grad_(True)


class LeCam(nn.Module):
    """LeCam regularisation (Tseng et al. 2021): how far the mean logit of each side goes past the moving mean of the
    other's, of the images in one pass forward."""

    real: Tensor
    fake: Tensor

    def __init__(self, decay: float):
        super().__init__()
        self.decay = decay
        self.register_buffer("real", torch.zeros(()))  # moving means, from where logits start
        self.register_buffer("fake", torch.zeros(()))

    def forward(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return (real_logits.mean() - self.fake).relu().square() + (self.real - fake_logits.mean()).relu().square()

    def update(self, real: Tensor, fake: Tensor) -> None:
        """Once a step of the optimizer, with the mean logits of its whole batch."""
        self.real.lerp_(real, 1 - self.decay)
        self.fake.lerp_(fake, 1 - self.decay)
