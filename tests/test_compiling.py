"""What torch.compile captures of a training step: all of each part, once for equal blocks, and not one bit otherwise.

What a compiler then makes of it is torch's, and takes minutes here: the graphs run as they were captured.
"""

from copy import deepcopy
from functools import partial

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from restok_cli.cuda.compiler import is_wanted
from restok_cli.metrics.networks.lpips import Lpips
from restok_cli.model.har import Har
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.settings.presets import read_preset
from restok_cli.settings.training import DINO, HarRunConfig, TokenizerRunConfig
from restok_cli.training.adversarial.diff_augment import diff_augment
from restok_cli.training.adversarial.discriminator import Dino, DinoDiscriminator, LeCam, PatchDiscriminator
from restok_cli.training.compiling import compile_discriminator, compile_losses, compile_model
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


def training_losses(tokenizer: Tokenizer, images: Tensor, judge: nn.Module, draws: Tensor) -> tuple[Tensor, ...]:
    result = tokenizer(images)
    terms = TokenizerLosses(RUN, LPIPS, None)(result, images, tokenizer.quantizer, draws)
    others = discriminator_losses(judge, images, result.images, LeCam(0.9), draws, RUN.discriminator)
    return (*terms.values(), *others.values())


LPIPS = lpips()
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
NOISE = torch.rand(2, NUM_NOISE, generator=torch.Generator().manual_seed(1))


def parts() -> dict[str, tuple]:
    """By name: what is called, and with what."""
    tokenizer = Tokenizer(WITH_ALIGNMENT)
    features = tokenizer.pixel_encoder(IMAGES).detach()
    latents = tokenizer.encoder(features).latents.detach()
    har = Har(HarRunConfig.parse(read_preset("har", "tiny"), "test").model)
    codes = torch.randint(har.config.codebook_size, (2, har.config.num_codes))
    judge, augmented = PatchDiscriminator(channels=32), NOISE[:, :10]
    return {
        "pixel encoder": (tokenizer.pixel_encoder, IMAGES),
        "encoder": (tokenizer.encoder, features),
        "quantizer": (tokenizer.quantizer, latents),
        "decoder": (tokenizer.decoder, latents, torch.tensor([1, 32]), True),
        "pixel decoder": (tokenizer.pixel_decoder, torch.rand(2, CONFIG.feature_channels, *CONFIG.grid)),
        "tokenizer": (tokenizer, IMAGES, torch.tensor([1, 32]), True),
        "generator": (har, torch.tensor([0, 1]), codes),
        "LPIPS": (LPIPS, IMAGES, IMAGES.flip(0)),
        "teacher": (teacher(), IMAGES),
        "DINO discriminator": (dino_discriminator(), IMAGES, NOISE[:, :3]),
        "patch discriminator": (judge, IMAGES, NOISE[:, :3]),
        "crops": (pad_and_crop, IMAGES, IMAGES.flip(0), NOISE[:, :4]),
        "augmentation": (diff_augment, IMAGES, 0.5, augmented, "unit"),
        "losses": (training_losses, tokenizer, IMAGES, judge, NOISE),
    }


@pytest.mark.parametrize("name", parts())
def test_every_part_is_captured_whole_and_computes_the_same(graphs, name):
    function, *inputs = parts()[name]
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
        torch._dynamo.reset()
        graphs.clear()
        tokenizer = Tokenizer(CONFIG.model_copy(update={"decoder_layers": layers}))
        expected, plain = gradients(deepcopy(tokenizer)), deepcopy(tokenizer)
        recompute_activations(tokenizer, memory, compiled=True)
        compile_model(tokenizer)
        for ours, theirs in zip(gradients(tokenizer), expected, strict=True):
            assert torch.equal(ours, theirs)
        numbers.append(len(graphs))
        assert plain(IMAGES) and len(graphs) == numbers[-1]  # a copy made before is as it was
    assert 5 < numbers[0] == numbers[1]


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
