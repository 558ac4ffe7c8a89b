"""HAR, the next-hierarchy generator of codes, and plain AR on the same backbone.

Paper section 3.4, docs/algorithm.md section 3.

A LlamaGen transformer over L positions, of which position i predicts code i. With A sequential codes (4), the input is

    [class, c0, c1, c2,  c3, q0, q1, q2,  c4 … c7, q3 … q6,  c8 … c15, q7 … q14,  …]

that is: A positions of plain AR, then for every level its input is the codes of the level before and as many fresh
query tokens, and all its codes are predicted at once. Plain AR is A = L. It knows neither images nor a tokenizer.
Letters: B batch, C width, L codes of an image, T positions of one call, V codebook size.
"""

from typing import Self

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from restok_cli.model.config import HarConfig
from restok_cli.model.layers import rotary_angles, rotary_table, rotate
from restok_cli.model.levels import step_lengths, step_sizes

Seen = tuple[Tensor, Tensor]  # keys and values (B, heads, positions, head width) of one layer


class KVCache:
    """Keys and values of the positions seen so far, for every layer. Made by the sampler, filled by `Har.step`."""

    def __init__(self, config: HarConfig, batch_size: int, device: torch.device, dtype: torch.dtype):
        shape = (config.num_layers, batch_size, config.num_heads, config.num_codes, config.width // config.num_heads)
        self.keys = torch.empty(shape, device=device, dtype=dtype)
        self.values = torch.empty(shape, device=device, dtype=dtype)

    def rows(self, start: int, stop: int) -> Self:
        """A view on images start … stop − 1 of the batch."""
        view = object.__new__(type(self))
        view.keys, view.values = self.keys[:, start:stop], self.values[:, start:stop]
        return view

    def layers(self, stop: int) -> list[Seen]:
        """For every layer, a view on keys and values of the positions before `stop`, which `see` fills."""
        return [(self.keys[i, :, :, :stop], self.values[i, :, :, :stop]) for i in range(len(self.keys))]


def see(seen: Seen, keys: Tensor, values: Tensor) -> Seen:
    """Store keys and values of a call's T positions, which are the last, and return those of all."""
    for stored, new in zip(seen, (keys, values), strict=True):
        stored[:, :, -new.shape[2] :] = new
    return seen


class HarBlock(nn.Module):
    """x + Attn(RMS x), then x + SwiGLU(RMS x); no biases."""

    def __init__(self, config: HarConfig):
        super().__init__()
        width = config.width
        self.head_width = width // config.num_heads
        self.attention_norm = nn.RMSNorm(width, eps=1e-5)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width, bias=False)
        self.ffn_norm = nn.RMSNorm(width, eps=1e-5)
        self.gate = nn.Linear(width, config.ffn_width, bias=False)
        self.up = nn.Linear(width, config.ffn_width, bias=False)
        self.down = nn.Linear(config.ffn_width, width, bias=False)
        self.residual_dropout = nn.Dropout(config.residual_dropout)
        self.ffn_dropout = nn.Dropout(config.ffn_dropout)

    def forward(self, tokens: Tensor, table: Tensor, mask: Tensor | None, seen: Seen | None = None) -> Tensor:
        qkv = self.qkv(self.attention_norm(tokens))
        qk, v = rearrange(qkv, "b t (three h d) -> three b h t d", three=3, d=self.head_width).split([2, 1])
        (q, k), v = self.turn(qk, table), v[0]  # (B, heads, T, head width)
        if seen is not None:
            k, v = see(seen, k, v)
        mixed = self.join(F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
        tokens = tokens + self.residual_dropout(self.proj(mixed))
        hidden = self.ffn_norm(tokens)
        return tokens + self.ffn_dropout(self.down(self.activate(self.gate(hidden), self.up(hidden))))

    def turn(self, qk: Tensor, table: Tensor) -> Tensor:
        return rotate(qk, table)

    def join(self, heads: Tensor) -> Tensor:
        return rearrange(heads, "b h t d -> b t (h d)")

    def activate(self, gate: Tensor, up: Tensor) -> Tensor:
        return F.silu(gate) * up


class ClassEmbedding(nn.Embedding):
    """Class ids (B,) to vectors (B, C). The last row is the null class: no condition, learned by dropout of classes."""

    def __init__(self, num_classes: int, width: int, dropout: float):
        super().__init__(num_classes + 1, width)
        self.null_class, self.dropout = num_classes, dropout

    def drop(self, class_ids: Tensor, uniforms: Tensor) -> Tensor:
        """Class ids (B,), the null class in place of those whose number of `uniforms` (B,) in [0, 1) says so."""
        return torch.where(uniforms < self.dropout, self.null_class, class_ids)


class Har(nn.Module):
    """Class ids and codes to logits. `forward` is teacher-forced, `step` is one step of sampling."""

    rotary: Tensor
    mask: Tensor

    def __init__(self, config: HarConfig):
        super().__init__()
        self.config = config
        self.class_embedding = ClassEmbedding(config.num_classes, config.width, config.class_dropout)
        self.code_embedding = nn.Embedding(config.codebook_size, config.width)
        if config.is_har:
            self.query_embedding = nn.Parameter(torch.empty(config.num_codes // 2 - 1, config.width))
            nn.init.normal_(self.query_embedding, std=0.02)
        self.token_dropout = nn.Dropout(config.token_dropout)
        self.blocks = nn.ModuleList(HarBlock(config) for _ in range(config.num_layers))
        self.norm = nn.RMSNorm(config.width, eps=1e-5)
        self.head = nn.Linear(config.width, config.codebook_size, bias=False)
        table, mask = har_tables(config)
        self.register_buffer("rotary", table, persistent=False)
        self.register_buffer("mask", mask, persistent=False)
        self.apply(init_har)
        nn.init.zeros_(self.head.weight)

    def forward(self, class_ids: Tensor, codes: Tensor) -> Tensor:
        """class_ids (B,), codes (B, L) -> logits (B, L, V); position i sees no code that is drawn with or after i."""
        tokens = self.token_dropout(self.embed_inputs(class_ids, codes, 0, self.config.num_codes))
        for block in self.blocks:
            tokens = block(tokens, self.rotary, self.mask)
        return self.head(self.norm(tokens))

    def step(self, class_ids: Tensor, codes: Tensor, cache: KVCache, start: int, stop: int) -> Tensor:
        """Take in one step's positions start … stop − 1 and return their logits (B, stop − start, V).

        `codes` (B, ≥ those drawn so far) holds the codes before this step; `cache` the positions before `start`.
        """
        inputs = self.embed_inputs(class_ids, codes, start, stop)
        tokens = self.transform(inputs, None, cache, start)  # no mask: they all see each other and everything before
        return self.head(self.norm(tokens))

    def fill(self, class_ids: Tensor, codes: Tensor, cache: KVCache, start: int, stop: int) -> None:
        """Take in the positions of several steps at once, for the cache alone: no logits."""
        inputs = self.embed_inputs(class_ids, codes, start, stop)
        self.transform(inputs, self.mask[start:stop, :stop], cache, start)

    def transform(self, tokens: Tensor, mask: Tensor | None, cache: KVCache, start: int) -> Tensor:
        """The blocks, on inputs (B, T, C) at positions from `start` on."""
        stop = start + tokens.shape[1]
        table = self.rotary[:, start:stop]
        for block, seen in zip(self.blocks, cache.layers(stop), strict=True):
            tokens = block(tokens, table, mask, seen)
        return tokens

    def embed_inputs(self, class_ids: Tensor, codes: Tensor, start: int, stop: int) -> Tensor:
        """The inputs (B, stop − start, C) of those positions; see the top of this file."""
        parts = []
        sequential = self.config.num_sequential_codes
        if start == 0:
            parts.append(self.class_embedding(class_ids)[:, None])
        first, last = max(start, 1), min(stop, sequential)
        if first < last:
            parts.append(self.code_embedding(codes[:, first - 1 : last - 1]))
        for level_start in step_lengths(self.config.num_codes, sequential)[sequential - 1 : -1]:  # 4, 8, 16, 32, 64
            if start <= level_start < stop:
                parts += self.embed_level(codes, level_start)
        return torch.cat(parts, dim=1)

    def embed_level(self, codes: Tensor, start: int) -> list[Tensor]:
        """Inputs of the level at positions start … 2·start − 1: the codes of the level before, then query tokens."""
        first_level = start == self.config.num_sequential_codes
        given = codes[:, start - 1 : start] if first_level else codes[:, start // 2 : start]
        first_query = 0 if first_level else start // 2 - 1
        queries = self.query_embedding[first_query : first_query + start - given.shape[1]]
        return [self.code_embedding(given), queries.expand(len(codes), -1, -1)]


def har_tables(config: HarConfig) -> tuple[Tensor, Tensor]:
    """Rotary table (see `rotary_table`) and mask (L, L), true = may see: the own step's positions and all before.

    Made on the CPU also where the module is built on the meta device, so that loading has nothing to restore.
    """
    with torch.device("cpu"):
        sizes = step_sizes(config.num_codes, config.num_sequential_codes)
        step = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes), output_size=sum(sizes))
        angles = rotary_angles(torch.arange(config.num_codes), config.width // config.num_heads)
        return rotary_table(angles), step[:, None] >= step


def init_har(module: nn.Module) -> None:
    """Normal weights of standard deviation 0.02 (LlamaGen)."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
