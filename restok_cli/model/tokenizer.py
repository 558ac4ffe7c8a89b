"""ResTok, the hierarchical residual 1-D tokenizer (paper section 3, docs/algorithm.md section 2).

    images (B, 3, H, W) -> pixel encoder -> encoder -> quantizer -> codes (B, L)
    codes (B, L) -> code vectors -> decoder -> pixel decoder -> images (B, 3, H, W)

It knows no classes. Letters in the comments at line ends: B batch, C width, D code dimension, N image tokens,
L latent tokens, K levels, (h, w) the grid of image tokens.
"""

from collections.abc import Iterable
from typing import NamedTuple, Self, cast

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from restok_cli.model.config import TokenizerConfig
from restok_cli.model.empty import without_weights
from restok_cli.model.layers import Block, grid_positions, line_positions, rotary_table_2d
from restok_cli.model.levels import level_grid, level_sizes, merging_blocks, stage_sizes
from restok_cli.model.pixel_codec import PixelDecoder, PixelEncoder
from restok_cli.model.quantizer import Quantized, Quantizer

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Encoded(NamedTuple):
    """Latents before the quantizer (B, L, D), and the image tokens of every stage, coarsest first."""

    latents: Tensor
    image_tokens: tuple[Tensor, ...]


class Reconstruction(NamedTuple):
    """Results of one pass for a training step: images about [0, 1], not clamped; features only with alignment."""

    images: Tensor  # (B, 3, H, W)
    latents: Tensor  # (B, L, D), before the quantizer
    quantized: Quantized
    encoder_features: Tensor | None  # (B, teacher channels)
    decoder_features: Tensor | None  # (B, teacher channels, h, w)


def area_pool(feature_map: Tensor, grid: tuple[int, int]) -> Tensor:
    """Means of a map (B, C, h, w) over the cells of a grid."""
    cell = feature_map.shape[2] // grid[0], feature_map.shape[3] // grid[1]
    if grid == (1, 1) or feature_map.shape[2:] != (cell[0] * grid[0], cell[1] * grid[1]):
        return F.adaptive_avg_pool2d(feature_map, grid)  # but for a single cell, a GPU adds up its gradients by chance
    return F.avg_pool2d(feature_map, cell)


def pool_levels(feature_map: Tensor, sizes: tuple[int, ...], residual: bool) -> Tensor:
    """Initial latent tokens (B, L, C): a map (B, C, h, w) area-pooled to the grid of each level (Algorithm 1).

    With `residual`, each level only gets what the coarser ones, up-sampled, do not hold already.
    """
    rest, levels = feature_map, []
    for size in sizes:
        pooled = area_pool(rest, level_grid(size))
        levels.append(rearrange(pooled, "b c h w -> b (h w) c"))
        if residual:
            rest = rest - F.interpolate(pooled, feature_map.shape[-2:], mode="nearest")
    return torch.cat(levels, dim=1)


def level_maps(tokens: Tensor, sizes: tuple[int, ...], grid: tuple[int, int], residual: bool) -> Tensor:
    """The reverse: latent tokens (B, L, C) -> the sum (residual) or mean of the up-sampled levels (B, C, h, w)."""
    maps = [
        F.interpolate(rearrange(level, "b (h w) c -> b c h w", h=level_grid(size)[0]), grid, mode="nearest")
        for size, level in zip(sizes, tokens.split(sizes, dim=1), strict=True)
    ]
    total = torch.stack(maps).sum(0)
    return total if residual else total / len(maps)


class LevelLinear(nn.Module):
    """A linear layer of its own for each level of latent tokens (`head_per_level`), or one for all."""

    def __init__(self, in_width: int, out_width: int, sizes: tuple[int, ...], per_level: bool):
        super().__init__()
        self.sizes = sizes if per_level else (sum(sizes),)
        self.linears = nn.ModuleList(nn.Linear(in_width, out_width) for _ in self.sizes)

    def forward(self, tokens: Tensor) -> Tensor:
        levels = tokens.split(self.sizes, dim=1)
        return torch.cat([linear(level) for linear, level in zip(self.linears, levels, strict=True)], dim=1)


class Encoder(nn.Module):
    """A transformer over image tokens and latent tokens; on the way, image tokens are merged to coarser stages."""

    def __init__(self, config: TokenizerConfig):
        super().__init__()
        self.config = config
        width = config.encoder_width
        self.level_sizes = level_sizes(config.num_latent_tokens)
        self.merging_blocks = merging_blocks(config.encoder_layers, config.num_stages)
        if config.pixel_encoder == "cnn":
            self.embed = nn.Conv2d(config.feature_channels, width, 1)
        else:
            self.embed = nn.Conv2d(3, width, config.patch_size, config.patch_size)
        self.stage_embeddings = nn.Parameter(torch.randn(config.num_stages, width).mul_(width**-0.5))
        self.level_embeddings = nn.Parameter(torch.randn(len(self.level_sizes), width).mul_(width**-0.5))
        self.norm_in = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, config.head_width) for _ in range(config.encoder_layers))
        self.norm_out = nn.LayerNorm(width)
        self.heads = LevelLinear(width, config.codebook_dim, self.level_sizes, config.head_per_level)
        for stage in range(config.num_stages):
            table, mask = encoder_tables(config, stage)
            self.register_buffer(f"rotary_{stage}", table, persistent=False)
            self.register_buffer(f"mask_{stage}", mask, persistent=False)

    def forward(self, features: Tensor) -> Encoded:
        """features (B, feature_channels, h, w) of the pixel encoder, or normalised pixels (B, 3, H, W)."""
        feature_map = self.embed(features)  # (B, C, h, w)
        image_tokens = rearrange(feature_map, "b c h w -> b (h w) c") + self.stage_embeddings[0]
        latent_tokens = self.initial_latents(feature_map) + expand_levels(self.level_embeddings, self.level_sizes)
        tokens = self.norm_in(torch.cat([image_tokens, latent_tokens], dim=1))  # (B, N + L, C)

        stage, num_coarsest = 0, image_tokens.shape[1]
        for i, block in enumerate(cast(Iterable[Block], self.blocks)):
            if i not in self.merging_blocks:
                tokens = block(tokens, *self.tables(stage))
                continue
            tokens = block.attend(tokens, *self.tables(stage))
            tokens = block.feed(self.merge(tokens, num_coarsest))
            stage, num_coarsest = stage + 1, num_coarsest // self.config.merge_factor
            merged, others = tokens[:, :num_coarsest], tokens[:, num_coarsest:]
            tokens = torch.cat([merged + self.stage_embeddings[stage], others], dim=1)

        sizes = stage_sizes(image_tokens.shape[1], self.config.num_stages, self.config.merge_factor)
        *stages, latent_tokens = tokens.split([*reversed(sizes), self.config.num_latent_tokens], dim=1)
        latents = self.heads(self.lay_out(self.norm_out(latent_tokens)))
        return Encoded(latents, tuple(stages))

    def initial_latents(self, feature_map: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, L, C)."""
        if self.config.latent_init == "flat":
            return area_pool(feature_map.flatten(2)[:, :, None], (1, self.config.num_latent_tokens)).flatten(2).mT
        return pool_levels(feature_map, self.level_sizes, self.config.residual_latent_tokens)

    def tables(self, stage: int) -> tuple[Tensor, Tensor]:
        """Rotary table and mask of the blocks after `stage` merges."""
        return getattr(self, f"rotary_{stage}"), getattr(self, f"mask_{stage}")

    def merge(self, tokens: Tensor, num_coarsest: int) -> Tensor:
        """Put a coarser stage before the coarsest one, which keeps, with residuals, only what that does not hold."""
        parents, others = tokens[:, :num_coarsest], tokens[:, num_coarsest:]
        groups = rearrange(parents, "b (n f) c -> b n f c", f=self.config.merge_factor)
        merged = groups.mean(2) if self.config.merge == "average" else groups[:, :, 0]
        if self.config.residual_image_tokens:
            parents = parents - repeat(merged, "b n c -> b (n f) c", f=self.config.merge_factor)
        return torch.cat([merged, parents, others], dim=1)

    def lay_out(self, latent_tokens: Tensor) -> Tensor:
        """Latent tokens as the heads see them; see `latent_layout` in the config."""
        if self.config.latent_layout == "straight":
            return latent_tokens
        batch, length, width = latent_tokens.shape
        return latent_tokens.reshape(batch, width, length).mT


class Decoder(nn.Module):
    """A transformer that turns code vectors, or a prefix of them, into features for the pixel decoder."""

    def __init__(self, config: TokenizerConfig):
        super().__init__()
        self.config = config
        width = config.decoder_width
        self.level_sizes = level_sizes(config.num_latent_tokens)
        self.mask_vector = nn.Parameter(torch.randn(config.codebook_dim).mul_(width**-0.5))
        self.embed = LevelLinear(config.codebook_dim, width, self.level_sizes, config.head_per_level)
        self.level_embeddings = nn.Parameter(torch.randn(len(self.level_sizes), width).mul_(width**-0.5))
        if config.image_queries == "learned":
            self.image_query = nn.Parameter(torch.randn(width).mul_(width**-0.5))
        if config.decoder_alignment_dim is not None:
            self.alignment_query = nn.Parameter(torch.randn(width).mul_(width**-0.5))
        self.norm_in = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, config.head_width) for _ in range(config.decoder_layers))
        self.norm_out = nn.LayerNorm(width)
        self.out = nn.Conv2d(width, config.feature_channels, 1)
        self.register_buffer("rotary", decoder_table(config), persistent=False)

    def forward(self, vectors: Tensor, prefix_lengths: Tensor | None, align: bool) -> tuple[Tensor, Tensor | None]:
        """vectors (B, L, D) -> features (B, feature_channels, h, w), and with `align` teacher-side tokens (B, N, C).

        Vectors past an image's prefix length (B,) are replaced by the learned mask vector.
        """
        vectors = vectors.to(self.mask_vector.dtype)
        if prefix_lengths is not None:
            kept = torch.arange(vectors.shape[1], device=vectors.device) < prefix_lengths[:, None]
            vectors = torch.where(kept[..., None], vectors, self.mask_vector)
        latent_tokens = self.embed(vectors)  # (B, L, C)
        queries = self.queries(latent_tokens)  # (B, N, C)
        latent_tokens = latent_tokens + expand_levels(self.level_embeddings, self.level_sizes)
        tokens = torch.cat([latent_tokens, queries], dim=1)
        if align:  # the second set of queries is decoded beside the first, as more images of the batch
            alignment_queries = self.alignment_query.expand_as(queries)
            tokens = torch.cat([tokens, torch.cat([latent_tokens, alignment_queries], dim=1)])
        tokens = self.norm_in(tokens)
        for block in self.blocks:
            tokens = block(tokens, self.rotary)
        decoded, *aligned = tokens[:, self.config.num_latent_tokens :].split(len(vectors))
        grid = rearrange(self.norm_out(decoded), "b (h w) c -> b c h w", h=self.config.grid[0])
        return self.out(grid), aligned[0] if align else None

    def queries(self, latent_tokens: Tensor) -> Tensor:
        """(B, N, C): what image tokens start from; see `image_queries` in the config."""
        config = self.config
        if config.image_queries == "learned":
            return self.image_query.expand(len(latent_tokens), config.num_image_tokens, -1)
        maps = level_maps(latent_tokens, self.level_sizes, config.grid, config.residual_latent_tokens)
        return rearrange(maps, "b c h w -> b (h w) c")


class Tokenizer(nn.Module):
    """Images to codes and back. `forward` is `decode` of `encode`."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: TokenizerConfig):
        super().__init__()
        self.config = config
        if config.pixel_encoder == "cnn":
            self.pixel_encoder = PixelEncoder(config)
        self.encoder = Encoder(config)
        self.quantizer = Quantizer(config.codebook_size, config.codebook_dim, config.normalize_codes)
        self.decoder = Decoder(config)
        self.pixel_decoder = PixelDecoder(config)
        if config.encoder_alignment_dim is not None:
            self.encoder_alignment = nn.Linear(config.encoder_width, config.encoder_alignment_dim, bias=False)
        if config.decoder_alignment_dim is not None:
            self.decoder_alignment = nn.Linear(config.decoder_width, config.decoder_alignment_dim, bias=False)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN, device="cpu").view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD, device="cpu").view(3, 1, 1), persistent=False)
        for name, part in self.named_children():
            if not name.endswith("alignment"):  # which the released code leaves as PyTorch makes them
                part.apply(init_weights)

    @property
    def device(self) -> torch.device:
        return self.quantizer.codebook.device

    @property
    def dtype(self) -> torch.dtype:
        """That of the transformers."""
        return self.encoder.stage_embeddings.dtype

    def for_size(self, height: int, width: int) -> Self:
        """A tokenizer with these weights, shared, for images of another size: no weight belongs to a position.

        It was not trained on that size. Raises UsageError for one that cannot be cut into its image tokens.
        """
        sizes = {"image_height": height, "image_width": width}
        config = TokenizerConfig.parse(self.config.model_dump() | sizes, f"images of {width}x{height}")
        with without_weights():
            other = type(self)(config)
        _share(self, other)
        return other.to(self.device).train(self.training)

    def to_dtype(self, dtype: torch.dtype, pixel_decoder: torch.dtype = torch.float32) -> None:
        """Keep pixel encoder and transformers in `dtype`, and the pixel decoder in another.

        The quantizer and the last convolution stay in float32. Of 16 bits the pixel decoder takes float16, which
        changes as little as TF32 does; it loses visibly in bfloat16 (docs/benchmarks.md).
        """
        for name, part in self.named_children():
            if name not in ("quantizer", "pixel_decoder"):
                part.to(dtype)
        self.pixel_decoder.to(pixel_decoder).conv_out.float()

    def forward(self, images: Tensor, prefix_lengths: Tensor | None = None, align: bool = False) -> Reconstruction:
        """images (B, 3, H, W) in [0, 1], decoded from the first `prefix_lengths` (B,) codes of each, or from all.

        `align` also makes the features that training compares with a teacher's, where the config has them.
        """
        encoded = self.encode_latents(images)
        quantized = self.quantizer(encoded.latents)
        encoder_features = decoder_features = None
        if align and self.config.encoder_alignment_dim is not None:
            encoder_features = self.encoder_alignment(encoded.image_tokens[0]).mean(1)
        align_decoder = align and self.config.decoder_alignment_dim is not None
        features, aligned = self.decoder(quantized.vectors, prefix_lengths, align_decoder)
        if aligned is not None:
            decoder_features = rearrange(self.decoder_alignment(aligned), "b (h w) c -> b c h w", h=self.config.grid[0])
        images = self.pixel_decoder(features)
        return Reconstruction(images, encoded.latents, quantized, encoder_features, decoder_features)

    def encode_latents(self, images: Tensor) -> Encoded:
        """images (B, 3, H, W) in [0, 1] -> latents before the quantizer (B, L, D), and image tokens by stage."""
        pixels = ((images - self.mean) / self.std).to(self.dtype)
        features = self.pixel_encoder(pixels) if self.config.pixel_encoder == "cnn" else pixels
        return self.encoder(features)

    def encode(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) in [0, 1] -> codes (B, L), int64."""
        return self.quantizer(self.encode_latents(images).latents).codes

    def decode(self, codes: Tensor) -> Tensor:
        """codes (B, n), any first n ≤ L of an image's -> images (B, 3, H, W), about [0, 1] and not clamped."""
        length = self.config.num_latent_tokens
        prefix_lengths = None
        if codes.shape[1] < length:
            prefix_lengths = torch.full((len(codes),), codes.shape[1], device=codes.device)
            codes = F.pad(codes, (0, length - codes.shape[1]))  # any code will do: the mask vector takes its place
        features, _ = self.decoder(self.quantizer.lookup(codes), prefix_lengths, align=False)
        return self.pixel_decoder(features)


def _share(tokenizer: Tokenizer, other: Tokenizer) -> None:
    """Give `other` the weights and parts of `tokenizer`; only what belongs to its size remains its own."""
    for name in ("encoder", "decoder"):  # which hold tables for all positions beside their parts
        mine, theirs = getattr(tokenizer, name), getattr(other, name)
        for key, parameter in mine.named_parameters(recurse=False):
            setattr(theirs, key, parameter)
        for key, part in mine.named_children():
            setattr(theirs, key, part)
    for key, part in tokenizer.named_children():
        if key not in ("encoder", "decoder"):
            setattr(other, key, part)


def expand_levels(embeddings: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """One vector per level (K, C) -> one per latent token (L, C)."""
    return torch.cat([embedding.expand(size, -1) for embedding, size in zip(embeddings, sizes, strict=True)])


def encoder_tables(config: TokenizerConfig, stage: int) -> tuple[Tensor, Tensor]:
    """Rotary table (see `rotary_table`) and mask (T, T), true = may see, of the blocks after `stage` merges.

    The sequence is [coarsest image group, …, finest image group, level 1, …, level K]. A token sees its own group
    and those before it: coarse image tokens ignore finer ones, and levels ignore later levels. Made on the CPU
    also where the module is built on the meta device, so that loading has nothing to restore.
    """
    with torch.device("cpu"):
        sizes = list(reversed(stage_sizes(config.num_image_tokens, stage + 1, config.merge_factor)))
        positions, offset = [], 0
        for size in sizes:
            positions.append(grid_positions(config.grid[0], size // config.grid[0], offset))
            offset += size
        positions.append(line_positions(config.num_latent_tokens, offset))
        groups = [*sizes, *level_sizes(config.num_latent_tokens)]
        group = torch.arange(len(groups)).repeat_interleave(torch.tensor(groups), output_size=sum(groups))
        table = rotary_table_2d(torch.cat(positions), config.head_width)
        return table, group[:, None] >= group


def decoder_table(config: TokenizerConfig) -> Tensor:
    """Rotary table of [latent tokens, queries]; made on the CPU as above."""
    with torch.device("cpu"):
        latents = line_positions(config.num_latent_tokens, 0)
        queries = grid_positions(*config.grid, config.num_latent_tokens)
        return rotary_table_2d(torch.cat([latents, queries]), config.head_width)


def init_weights(module: nn.Module) -> None:
    """Truncated normal weights of standard deviation 0.02, zero biases."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
