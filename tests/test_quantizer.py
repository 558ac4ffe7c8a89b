"""The quantizer, against a naive loop."""

import pytest
import torch

from restok_cli.model import quantizer as quantizer_module
from restok_cli.model.quantizer import Quantizer, nearest


@pytest.fixture(params=[True, False], ids=["normalised", "plain"])
def quantizer(request) -> Quantizer:
    torch.manual_seed(0)
    quantizer = Quantizer(50, 4, normalize=request.param)
    torch.nn.init.normal_(quantizer.codebook)
    return quantizer


def test_quantizer_equals_a_naive_loop(quantizer):
    latents = torch.randn(3, 7, 4)
    quantized = quantizer(latents)
    points, words = latents, quantizer.codebook.detach()
    if quantizer.normalize:
        points = points / points.norm(dim=-1, keepdim=True)
        words = words / words.norm(dim=-1, keepdim=True)
    total = 0.0
    for b in range(3):
        for t in range(7):
            distances = [(points[b, t] - word).square().sum().item() for word in words]
            code = min(range(50), key=distances.__getitem__)
            assert quantized.codes[b, t] == code
            assert torch.allclose(quantized.vectors[b, t], words[code], atol=1e-6)
            total += distances[code]
    mean = total / (3 * 7 * 4)
    assert quantized.codebook_loss.item() == pytest.approx(mean, rel=1e-5)
    assert quantized.commitment_loss.item() == pytest.approx(0.25 * mean, rel=1e-5)


def test_lookup_gives_the_vectors_of_the_codes(quantizer):
    quantized = quantizer(torch.randn(2, 5, 4))
    assert torch.allclose(quantizer.lookup(quantized.codes), quantized.vectors, atol=1e-6)


def test_straight_through_gradient_is_the_identity():
    quantizer = Quantizer(50, 4, normalize=False)
    latents = torch.randn(2, 5, 4, requires_grad=True)
    upstream = torch.randn(2, 5, 4)
    quantizer(latents).vectors.backward(upstream)
    assert torch.equal(latents.grad, upstream)


def test_each_loss_moves_only_its_own_side(quantizer):
    latents = torch.randn(2, 5, 4, requires_grad=True)
    assert quantizer(latents).loss == quantizer(latents).codebook_loss + quantizer(latents).commitment_loss
    quantizer(latents).codebook_loss.backward()
    assert latents.grad is None and quantizer.codebook.grad.abs().sum() > 0
    quantizer.codebook.grad = None
    quantizer(latents).commitment_loss.backward()
    assert latents.grad.abs().sum() > 0 and quantizer.codebook.grad is None


def test_entropy_loss_equals_its_formula(quantizer):
    latents = 0.1 * torch.randn(3, 4, 4)
    points, words = quantizer.prepare(latents).flatten(0, 1), quantizer.codewords()
    shares = torch.stack(
        [torch.softmax(torch.stack([-(point - word).square().sum() / 0.01 for word in words]), 0) for point in points]
    )

    def entropy(p):
        return -(p * (p + 1e-30).log()).sum(-1)

    expected = entropy(shares).mean() - entropy(shares.mean(0))
    assert torch.allclose(quantizer.entropy_loss(latents), expected, atol=1e-4)


def test_entropy_loss_has_a_gradient_where_no_latent_is_near_a_codeword():
    quantizer = Quantizer(2, 2, normalize=True)
    quantizer.codebook.data = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    latents = torch.tensor([[[1.0, 0.1]]], requires_grad=True)
    loss = quantizer.entropy_loss(latents)  # the second codeword's share is exp(-398), which float32 rounds to 0
    loss.backward()
    assert loss == 0 and latents.grad.isfinite().all() and quantizer.codebook.grad.isfinite().all()


def test_chunks_do_not_change_the_codes(monkeypatch):
    vectors, codewords = torch.randn(100, 4), torch.randn(30, 4)
    whole = nearest(vectors, codewords)
    monkeypatch.setattr(quantizer_module, "MAX_DISTANCES", 7 * 30)
    assert torch.equal(nearest(vectors, codewords), whole)


def test_quantizer_computes_in_float32_under_autocast(quantizer):
    latents = torch.randn(2, 5, 4)
    with torch.autocast("cpu", torch.bfloat16):
        quantized = quantizer(latents.bfloat16())
    assert quantized.vectors.dtype == torch.float32
    assert torch.equal(quantized.codes, quantizer(latents.bfloat16().float()).codes)
