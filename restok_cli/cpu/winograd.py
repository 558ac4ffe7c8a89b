"""3×3 convolutions in a quarter of the multiplications: Winograd's F(4×4, 3×3) (Lavin & Gray 2015, arXiv 1509.09308).

A filter g of three taps makes of six inputs d four outputs: y_i = Σ_k g_k d_{i+k}. That is the transpose of multiplying
the polynomial g by one of four coefficients, and polynomials are multiplied value by value: with E_n, which evaluates
n coefficients at six points, y = E_4ᵀ [(E_3 g) · (E_6⁻ᵀ d)]. In two dimensions the matrices are Kronecker products:
windows of 6×6 pixels give tiles of 4×4 in 36 multiplications instead of 144. The products of all channels and tiles at
one point are a matrix product.
"""

import math

import torch
from torch import Tensor, nn

# and infinity, where a polynomial's value is its last coefficient. These round better than 0, ±1 and ±2: as a whole
# with twice the error of PyTorch's own convolutions
POINTS = (0.0, 0.625, -0.625, 1.25, -1.25)
TILE, WINDOW = 4, 6
# Tiles at a time: what is computed of them stays in the cache (2 MB a step for 128 channels), and is much for a call.
STRIP = 128


def _evaluation(terms: int) -> Tensor:
    """(6², terms²) float64: the coefficients of a polynomial in two variables -> its values at pairs of points."""
    last = torch.arange(terms) == terms - 1
    matrix = torch.cat([torch.tensor(POINTS, dtype=torch.float64)[:, None] ** torch.arange(terms), last[None]])
    return torch.kron(matrix, matrix)


# It pays from so many channels and pixels on; with more weights than that the transformed ones would need much memory,
# to no effect in maps of 16×16.
CHANNELS = 128
WEIGHTS = 512 * 256
PIXELS = 1024


def suits(conv: nn.Conv2d) -> bool:
    """Whether a convolution is 3×3 of padding 1, without strides and the like, and of channels for which this pays."""
    channels = (conv.in_channels, conv.out_channels)
    plain = (conv.kernel_size, conv.padding, conv.stride, conv.dilation) == ((3, 3), (1, 1), (1, 1), (1, 1))
    return plain and conv.groups == 1 and min(channels) >= CHANNELS and math.prod(channels) <= WEIGHTS


class WinogradConv(nn.Module):
    """A 3×3 convolution (padding 1), of large maps (B, C, H, W) whose sides are multiples of 4 by Winograd's way."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.conv = conv
        weight = conv.weight.detach().double().flatten(2).permute(2, 1, 0)  # (3², C, O)
        self.weight = torch.tensordot(_evaluation(3), weight, 1).float()  # (6², C, O)
        self.to_points = torch.linalg.inv(_evaluation(WINDOW)).T.float().contiguous()  # (6², 6²)
        self.to_tiles = _evaluation(TILE).T.float().contiguous()  # (4², 6²)

    def forward(self, features: Tensor) -> Tensor:
        height, width = features.shape[2:]
        suitable = height * width >= PIXELS and height % TILE == width % TILE == 0
        return self.convolve(features) if suitable else self.conv(features)

    def convolve(self, features: Tensor) -> Tensor:
        batch, channels, height, width = features.shape
        points, _, out_channels = self.weight.shape
        across = width // TILE
        down = min(max(STRIP // across, 1), height // TILE)  # rows of tiles in a strip
        result = features.new_empty(batch, height, width, out_channels)
        padded = features.new_zeros(down * TILE + 2, width + 2, channels)
        windows = padded.unfold(0, WINDOW, TILE).unfold(1, WINDOW, TILE).permute(3, 4, 0, 1, 2)
        inputs, values = features.new_empty(2, points, down * across, channels)
        products = features.new_empty(points, down * across, out_channels)
        outputs = features.new_empty(TILE, TILE, down, across, out_channels)
        for image, made in zip(features.permute(0, 2, 3, 1), result, strict=True):
            for top in range(0, height, down * TILE):
                before, first = top - 1, max(top - 1, 0)
                last = min(top + down * TILE + 1, height)
                padded[: first - before] = 0
                padded[first - before : last - before, 1:-1] = image[first:last]
                padded[last - before :] = 0
                inputs.view(windows.shape).copy_(windows)
                torch.mm(self.to_points, inputs.flatten(1), out=values.flatten(1))
                torch.bmm(values, self.weight, out=products)
                torch.mm(self.to_tiles, products.flatten(1), out=outputs.view(TILE**2, -1))
                tiles = made[top : top + down * TILE].view(-1, TILE, across, TILE, out_channels).permute(1, 3, 0, 2, 4)
                tiles.copy_(outputs[:, :, : tiles.shape[2]])
        if self.conv.bias is not None:
            result += self.conv.bias
        return result.permute(0, 3, 1, 2)
