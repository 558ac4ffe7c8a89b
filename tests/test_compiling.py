"""What torch.compile captures of a training step: all of each part, once for equal blocks, and not one bit otherwise.

What a compiler then makes of it is torch's, and takes minutes here: the graphs run as they were captured.
"""

from collections.abc import Callable
from copy import deepcopy
from functools import cache, partial

import pytest
import timm
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from restok_cli.cuda.compiler import compile_model, is_wanted
from restok_cli.metrics.networks.lpips import Lpips
from restok_cli.model.har import Har
from restok_cli.model.tokenizer import Reconstruction, Tokenizer
from restok_cli.settings.presets import read_preset
from restok_cli.settings.training import DINO, HarRunConfig, TokenizerRunConfig
from restok_cli.training.adversarial.diff_augment import diff_augment
from restok_cli.training.adversarial.discriminator import Dino, DinoDiscriminator, LeCam, PatchDiscriminator
from restok_cli.training.compiling import compile_discriminator, compile_losses
from restok_cli.training.losses import NUM_NOISE, TokenizerLosses, discriminator_losses, pad_and_crop
from restok_cli.training.recomputing import recompute_activations
from restok_cli.training.teachers import Teacher

CPU = torch.device("cpu")
RUN = TokenizerRunConfig.parse(read_preset("tokenizer", "tiny") | {"loss": {"perceptual_weight": 1}}, "test")
CONFIG = RUN.model
WITH_ALIGNMENT = CONFIG.model_copy(update={"encoder_alignment_dim": 8, "decoder_alignment_dim": 8})
DINO3 = "vit_large_patch16_dinov3.lvd1689m"


@pytest.fixture
def graphs(monkeypatch) -> list[torch.fx.GraphModule]:
    """What was captured. A part that cannot be captured as a whole raises."""
    captured: list[torch.fx.GraphModule] = []

    def run_as_it_is(graph, _inputs):
        captured.append(graph)
        return graph.forward

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, fullgraph=True, backend=run_as_it_is))
    return captured


@cache
def lpips() -> Lpips:
    network = Lpips()
    for i in range(5):
        network.get_buffer(f"lin{i}").fill_(0.1)
    return network


def dino_discriminator() -> DinoDiscriminator:
    network = timm.create_model(DINO, embed_dim=32, num_heads=2)
    return DinoDiscriminator(Dino(network.requires_grad_(False).eval()))


def teacher() -> Teacher:
    network = timm.create_model(DINO3, embed_dim=48, num_heads=3, depth=3, img_size=(64, 64))
    return Teacher(network.requires_grad_(False).eval(), (4, 4))


IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
NOISE = torch.rand(2, NUM_NOISE, generator=torch.Generator().manual_seed(1))


def generator() -> tuple:
    har = Har(HarRunConfig.parse(read_preset("har", "tiny"), "test").model)
    return har, torch.tensor([0, 1]), torch.randint(har.config.codebook_size, (2, har.config.num_codes))


def training_losses() -> tuple:
    tokenizer, judge = Tokenizer(CONFIG), PatchDiscriminator(channels=32)
    losses, averages = TokenizerLosses(RUN, lpips(), None), LeCam(0.9)

    def terms(result: Reconstruction) -> tuple[Tensor, ...]:
        ours = losses(result, IMAGES, tokenizer.quantizer, NOISE)
        theirs = discriminator_losses(judge, IMAGES, result.images, averages, NOISE, RUN.discriminator)
        return (*ours.values(), *theirs.values())

    return terms, tokenizer(IMAGES)


PARTS: dict[str, Callable[[], tuple]] = {  # what is called, and with what
    "tokenizer": lambda: (Tokenizer(WITH_ALIGNMENT), IMAGES, torch.tensor([1, 32]), True),
    "generator": generator,
    "LPIPS": lambda: (lpips(), IMAGES, IMAGES.flip(0)),
    "teacher": lambda: (teacher(), IMAGES),
    "DINO discriminator": lambda: (dino_discriminator(), IMAGES, NOISE[:, :3]),
    "patch discriminator": lambda: (PatchDiscriminator(channels=32), IMAGES, NOISE[:, :3]),
    "crops": lambda: (pad_and_crop, IMAGES, IMAGES.flip(0), NOISE[:, :4]),
    "augmentation": lambda: (diff_augment, IMAGES, 0.5, NOISE[:, :10], "unit"),
    "losses": training_losses,
}


@pytest.mark.parametrize("name", PARTS)
def test_every_part_is_captured_whole_and_computes_the_same(graphs, name):
    function, *inputs = PARTS[name]()
    found = tree_leaves(torch.compile(function)(*inputs))
    assert len(graphs) == 1
    for ours, expected in zip(found, tree_leaves(function(*inputs)), strict=True):
        assert not isinstance(expected, Tensor) or torch.equal(ours, expected)


def gradients(tokenizer: Tokenizer) -> list[Tensor]:
    result = tokenizer(IMAGES, torch.tensor([4, 32]))
    (result.images.square().mean() + result.latents.mean() + result.quantized.vectors.mean()).backward()
    return [parameter.grad for parameter in tokenizer.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("memory", ["fast", "balanced", "small"])
def test_equal_blocks_are_compiled_once_and_others_apart(graphs, memory):
    numbers = []
    for layers in (2, 4):
        tokenizer = Tokenizer(CONFIG.model_copy(update={"decoder_layers": layers}))
        expected, plain = gradients(deepcopy(tokenizer)), deepcopy(tokenizer)
        recompute_activations(tokenizer, memory, compiled=True)
        compile_model(tokenizer)
        for ours, theirs in zip(gradients(tokenizer), expected, strict=True):
            assert torch.equal(ours, theirs)
        numbers.append(len(graphs))
        assert plain(IMAGES) and len(graphs) == numbers[-1]  # a copy made before is as it was
    assert 5 < numbers[0] == numbers[1]


def test_generate_compiles_each_kind_of_block_once(graphs, restok, tiny_models, tmp_path):
    """The generator's two layers as one, for each step; and nothing anew for a last block that is smaller."""
    numbers, images = [], []
    for count in (2, 3):
        options = ("--count", count, "--batch-size", 2, "--steps", 2, "--compile", "on", "-o", tmp_path / str(count))
        assert restok("generate", "--model", tiny_models / "har", *options).code == 0
        numbers.append(len(graphs))
        images.append([(tmp_path / str(count) / f"{i:06d}.png").read_bytes() for i in range(2)])
    assert numbers[0] == numbers[1] and images[0] == images[1]
    assert sum("seen" in graph.code for graph in graphs) == 2


def test_the_losses_networks_are_compiled_in_their_places(graphs):
    judge, frozen = dino_discriminator(), TokenizerLosses(RUN, lpips(), teacher())
    inputs = (IMAGES, NOISE[:, :3])
    expected = judge(*inputs), frozen.lpips(IMAGES, IMAGES.flip(0)), frozen.teacher(IMAGES).patches
    names = judge.state_dict().keys()
    compile_losses(frozen)
    compile_discriminator(judge)
    found = judge(*inputs), frozen.lpips(IMAGES, IMAGES.flip(0)), frozen.teacher(IMAGES).patches
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)
    assert len(graphs) == 4  # a block of DINO, its heads, LPIPS, a block of the teacher
    assert judge.state_dict().keys() == names


def test_auto_is_off_on_a_cpu_and_where_a_gpu_cannot_compile(capsys):
    assert [is_wanted(choice, CPU, "x") for choice in ("auto", True, False)] == [False, True, False]
    assert not is_wanted("auto", torch.device("cuda"), "--compile off")  # of which there is none here
    line = capsys.readouterr().err
    assert "nothing is compiled, since torch.compile fails here (" in line and "; --compile off is silent" in line
