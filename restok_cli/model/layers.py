"""Parts of the tokenizer's two transformers: 2-D rotary positions, attention, blocks (docs/algorithm.md section 2).

Also the rotation itself, which the HAR generator shares.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def rotary_angles(positions: Tensor, width: int, base: float = 10000.0) -> Tensor:
    """Angles by which each pair of channels turns: positions (T,) -> (T, width / 2), float32."""
    frequencies = base ** -(torch.arange(0, width, 2, dtype=torch.float32, device=positions.device) / width)
    return positions.float()[:, None] * frequencies


def rotary_table(angles: Tensor) -> Tensor:
    """(T, width / 2) angles -> (3, T, width / 2, 2): of each angle (cos, sin), (cos, cos) and (−sin, sin).

    The first is a complex number, by which a pair may be multiplied as such; the others are what `rotate` takes.
    """
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([torch.stack(pair, dim=-1) for pair in ((cos, sin), (cos, cos), (-sin, sin))])


def rotate(tokens: Tensor, table: Tensor) -> Tensor:
    """Turn adjacent channel pairs of tokens (…, T, width) by a table (3, T, width / 2, 2)."""
    _, cos, sin = table.to(tokens.dtype).unbind()
    pairs = tokens.unflatten(-1, (-1, 2))
    return torch.addcmul(pairs * cos, pairs.flip(-1), sin).flatten(-2)


def grid_positions(rows: int, columns: int, offset: int) -> Tensor:
    """(rows · columns, 2) integer positions (row, column) + offset, row-major."""
    return torch.cartesian_prod(torch.arange(rows), torch.arange(columns)) + offset


def line_positions(length: int, offset: int) -> Tensor:
    """(length, 2) positions of latent tokens: t + offset on both axes."""
    return (torch.arange(length) + offset)[:, None].expand(-1, 2)


def rotary_table_2d(positions: Tensor, head_width: int) -> Tensor:
    """Table for (T, 2) positions: rows turn the first half of a head's channels, columns the second."""
    rows, columns = positions.unbind(1)
    half = head_width // 2
    return rotary_table(torch.cat([rotary_angles(rows, half), rotary_angles(columns, half)], dim=1))


class Attention(nn.Module):
    """Multi-head attention with biases on q and v, and LayerNorm on q and k per head before the rotation."""

    def __init__(self, width: int, head_width: int):
        super().__init__()
        self.head_width = head_width
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.q_norm = nn.LayerNorm(head_width)
        self.k_norm = nn.LayerNorm(head_width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, table: Tensor, mask: Tensor | None) -> Tensor:
        """tokens (B, T, C); without a mask (T, T), true = may see, each token sees all."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(tokens, self.qkv.weight, bias)
        q, k, v = rearrange(qkv, "b t (three h d) -> three b h t d", three=3, d=self.head_width)
        q, k = self.turn(q, k, table)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(self.join(mixed))

    def turn(self, q: Tensor, k: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """q and k (B, heads, T, head width) as they are compared."""
        return rotate(self.q_norm(q), table), rotate(self.k_norm(k), table)

    def join(self, heads: Tensor) -> Tensor:
        return rearrange(heads, "b h t d -> b t (h d)")


class Mlp(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(self.activate(self.fc1(tokens)))

    def activate(self, hidden: Tensor) -> Tensor:
        return F.gelu(hidden)


class Block(nn.Module):
    """x + γ1·Attn(LN x), then x + γ2·MLP(LN x); apart, because a merge may happen between the two."""

    def __init__(self, width: int, head_width: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, head_width)
        self.gamma1 = nn.Parameter(torch.ones(width))
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width)
        self.gamma2 = nn.Parameter(torch.ones(width))

    def attend(self, tokens: Tensor, table: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.add(tokens, self.gamma1, self.attn(self.norm1(tokens), table, mask))

    def feed(self, tokens: Tensor) -> Tensor:
        return self.add(tokens, self.gamma2, self.mlp(self.norm2(tokens)))

    def add(self, tokens: Tensor, gamma: Tensor, change: Tensor) -> Tensor:
        return torch.addcmul(tokens, gamma, change)

    def forward(self, tokens: Tensor, table: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.feed(self.attend(tokens, table, mask))
