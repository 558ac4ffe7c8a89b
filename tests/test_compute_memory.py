"""What a step keeps for its backward pass, counted on tensors without numbers; keeping less changes no gradient."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from restok_cli.metrics.networks.lpips import Lpips
from restok_cli.model.config import HarConfig, TokenizerConfig
from restok_cli.model.har import Har, HarBlock, har_tables
from restok_cli.model.layers import Block, line_positions, rotary_table_2d
from restok_cli.model.pixel_codec import ResidualBlock
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.planning.counting import GRADIENTS, Counter, building
from restok_cli.planning.steps import count_step, counting
from restok_cli.settings.precedence import layers_of
from restok_cli.settings.presets import read_preset
from restok_cli.settings.run_config import Told, complete_config
from restok_cli.settings.training import ComputeConfig, HarRunConfig, TokenizerRunConfig
from restok_cli.training.recomputing import Sparing, recompute_activations
from restok_cli.training.teachers import teacher_width

GIB = 2**30
SIZES = "schedule.batch_size=8", "schedule.micro_batch_size=8"
# what takes the place of its other blocks, and of the networks that are not trained, but for LPIPS
FEW = "model.encoder_layers=4", "model.decoder_layers=2", "discriminator.weight=0"
FEW = (*FEW, "alignment.encoder_weight=0", "alignment.decoder_weight=0")


def count(*assignments: str) -> Counter:
    """A step of restok-l-128 by its whole recipe, 8 images a micro-batch."""
    told = Told("tokenizer", layers_of("tokenizer", "restok-l-128", None, [*SIZES, *assignments], {}), "", None)
    return count_step(complete_config(told, teacher_width=teacher_width), gpu=False)


def test_a_whole_step_takes_so_much():
    """43.97 GiB it was when LPIPS kept a graph of the real images; its FLOPs are those of the released recipe."""
    counter = count("compute.precision=float32")
    assert counter.peak / GIB == pytest.approx(43.12, rel=0.002)
    parts = counter.at_peak()
    assert sum(parts.values()) == counter.peak
    assert parts["optimizer"] == pytest.approx(2 * parts["weights"], rel=0.02)
    assert parts["average"] == parts["weights"] == pytest.approx(2.467 * GIB, rel=0.001)
    assert counter.flops / 8 == pytest.approx(3.84e12, rel=0.01)


def test_each_choice_takes_so_much_less():
    fast, balanced, small = (count(*FEW, f"compute.memory={memory}") for memory in ("fast", "balanced", "small"))
    assert balanced.peak / fast.peak == pytest.approx(0.66, abs=0.01)
    assert small.peak / fast.peak == pytest.approx(0.51, abs=0.01)
    two = count(*FEW, "compute.memory=small", "schedule.batch_size=16").at_peak()
    assert two[GRADIENTS] == pytest.approx(two["weights"], rel=0.01), "which wait for those of the second micro-batch"
    assert small.at_peak().get(GRADIENTS, 0) < two[GRADIENTS] / 2


def residual_block() -> tuple[nn.Module, tuple]:
    return ResidualBlock(64, 64, TokenizerConfig()), (torch.empty(16, 64, 8, 8, requires_grad=True),)


def transformer_block() -> tuple[nn.Module, tuple]:
    tokens = torch.empty(16, 32, 64, requires_grad=True)
    return Block(64, 32), (tokens, rotary_table_2d(line_positions(32, 0), 32))


def har_block() -> tuple[nn.Module, tuple]:
    config = HarConfig(num_codes=32, width=64, num_layers=1, num_heads=2, residual_dropout=0, ffn_dropout=0)
    tokens = torch.empty(16, 32, 64, requires_grad=True)
    return HarBlock(config), (tokens, har_tables(config)[0], None)


@pytest.mark.parametrize(
    ("make", "kept"),
    [
        (residual_block, 1 + 1),  # the first convolution, the sum
        (transformer_block, 3 + 1 + 1 + 1 + 4 + 1 + 1),  # qkv, attention, product, sum; hidden, product, sum
        (har_block, 3 + 1 + 1 + 4 + 4 + 1 + 2),  # qkv, attention, sum; gate, up, sum; a CPU's RMS norms, before weights
    ],
)
def test_a_block_keeps_what_its_products_give_and_its_sums(make, kept):
    """In units of its output; of layer norms only two numbers a token stay."""
    with counting(gpu=True) as counter:
        with building():
            block, inputs = make()
            Sparing().take(block)
        before = counter.total
        output = block(*inputs)
        assert (counter.total - before) / output.nbytes == pytest.approx(kept, abs=0.1)


@pytest.mark.parametrize("short", [False, True], ids=["float32", "bf16"])
@pytest.mark.parametrize("memory", ["balanced", "small"])
def test_what_is_computed_again_leaves_gradients_as_they_are(memory, short):
    run = HarRunConfig.parse(read_preset("har", "tiny"), "test")
    torch.manual_seed(0)
    har = Har(run.model)
    nn.init.normal_(har.head.weight)
    inputs = torch.tensor([0, 1]), torch.randint(run.model.codebook_size, (2, run.model.num_codes))

    def gradients(model: Har) -> list[Tensor]:
        torch.manual_seed(1)  # of its dropout
        with torch.autocast("cpu", torch.bfloat16, enabled=short):
            logits = model(*inputs)
        logits.square().mean().backward()
        return [parameter.grad for parameter in model.parameters()]

    expected = gradients(deepcopy(har))
    recompute_activations(har, memory)
    for found, gradient in zip(gradients(har), expected, strict=True):
        assert torch.equal(found, gradient)


@pytest.mark.parametrize("short", [False, True], ids=["float32", "bf16"])
def test_a_tokenizer_and_lpips_have_the_same_gradients(short):
    config = TokenizerRunConfig.parse(read_preset("tokenizer", "tiny"), "test").model
    torch.manual_seed(0)
    models = Tokenizer(config), Lpips()
    for i in range(5):
        models[1].get_buffer(f"lin{i}").fill_(0.1)
    images = torch.rand(2, 3, 32, 32)

    def gradients(tokenizer: Tokenizer, lpips: Lpips) -> list[Tensor | None]:
        tokenizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=short):
            distance = lpips(tokenizer(images).images, images)
        distance.mean().backward()
        return [parameter.grad for parameter in tokenizer.parameters()]

    expected = gradients(*models)
    for memory in ("balanced", "small"):
        copies = deepcopy(models)
        for model in copies:
            recompute_activations(model, memory)
        for found, gradient in zip(gradients(*copies), expected, strict=True):
            assert (found is None and gradient is None) or torch.equal(found, gradient)


def test_a_pass_for_some_gradients_leaves_those_of_the_others_as_they_are():
    """An adaptive weight asks for the gradient of one layer first; the pass after it goes through everything again."""
    torch.manual_seed(0)
    block, tokens = Block(32, 16), torch.randn(2, 5, 32, requires_grad=True)
    table = rotary_table_2d(line_positions(5, 0), 16)

    def gradients(block: Block) -> list[Tensor]:
        loss = block(tokens, table).square().mean()
        first = torch.autograd.grad(loss, block.mlp.fc2.weight, retain_graph=True)
        return [*first, *torch.autograd.grad(loss, [tokens, *block.parameters()])]

    expected = gradients(block)
    Sparing().take(block)
    for found, gradient in zip(gradients(block), expected, strict=True):
        assert torch.equal(found, gradient)


def test_auto_computes_again_on_a_gpu_alone():
    assert [ComputeConfig().memory_on(device) for device in ("cpu", "cuda")] == ["fast", "balanced"]
    assert ComputeConfig(memory="small").memory_on("cpu") == "small"
