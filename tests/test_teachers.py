"""Teachers of the alignment losses, against what timm itself computes."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from restok_cli.errors import RestokError, UsageError
from restok_cli.settings.presets import read_preset
from restok_cli.settings.run_config import with_alignment_dims
from restok_cli.settings.training import AlignmentConfig, TokenizerRunConfig
from restok_cli.training import frozen
from restok_cli.training.losses import downloads
from restok_cli.training.teachers import Teacher, open_teacher, teacher_width

CPU = torch.device("cpu")

# One of each family that the paper's ablations name, and one whose last norm is for the mean of patches, narrow here:
# prefix tokens, and pixels of 2×3 patches.
FAMILIES = {
    "vit_large_patch16_dinov3.lvd1689m": (5, (32, 48)),
    "vit_base_patch14_dinov2.lvd142m": (1, (28, 42)),
    "vit_base_patch14_reg4_dinov2.lvd142m": (5, (28, 42)),
    "vit_base_patch16_clip_224.openai": (1, (32, 48)),
    "vit_base_patch16_siglip_256.v2_webli": (0, (32, 48)),
    "vit_base_patch16_224.mae": (1, (32, 48)),
    "eva02_base_patch14_224.mim_in22k": (1, (28, 42)),
}


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_features_are_timms_for_every_family(name):
    num_prefix, size = FAMILIES[name]
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, img_size=size, embed_dim=48, num_heads=3, depth=2).eval()
    images = torch.rand(2, 3, *size)
    facts = network.pretrained_cfg
    normalised = (images - torch.tensor(facts["mean"])[:, None, None]) / torch.tensor(facts["std"])[:, None, None]
    tokens = network.fc_norm(network.forward_features(normalised))
    assert tokens.shape == (2, num_prefix + 6, 48)
    assert sum(isinstance(norm, nn.LayerNorm) for norm in (network.norm, network.fc_norm)) == 1

    found = Teacher(network, (2, 3))(images)
    assert found.patches.shape == (2, 48, 2, 3)
    for row in range(2):
        for column in range(3):
            torch.testing.assert_close(found.patches[:, :, row, column], tokens[:, num_prefix + 3 * row + column])
    torch.testing.assert_close(found.image, tokens[:, 0] if num_prefix else tokens.mean(1))


def test_pictures_are_resized_until_patches_are_image_tokens():
    teacher = open_teacher(AlignmentConfig(teacher="test_vit", weights="random"), (4, 2), CPU)
    images = torch.rand(2, 3, 32, 16)
    resized = F.interpolate(images, (64, 32), mode="bicubic", antialias=True)
    found, expected = teacher(images), teacher(resized)
    assert found.patches.shape == (2, 64, 4, 2) and teacher.network.num_features == 64
    assert torch.equal(found.patches, expected.patches) and torch.equal(found.image, expected.image)


def test_a_teacher_is_no_module_and_is_neither_trained_nor_followed():
    teacher = open_teacher(AlignmentConfig(teacher="test_vit", weights="random"), (2, 2), CPU)
    model = nn.Linear(1, 1)
    model.teacher = teacher
    model.train()
    assert set(model.state_dict()) == {"weight", "bias"}
    assert not teacher.network.training and not any(p.requires_grad for p in teacher.network.parameters())
    assert not teacher(torch.rand(1, 3, 32, 32, requires_grad=True)).patches.requires_grad


def test_features_are_float32_under_autocast():
    teacher = open_teacher(AlignmentConfig(teacher="test_vit", weights="random"), (2, 2), CPU)
    images = torch.rand(1, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        found = teacher(images)
    assert found.image.dtype == found.patches.dtype == torch.float32
    torch.testing.assert_close(found.patches, teacher(images).patches, atol=0.1, rtol=0.1)


def completed(config):
    return with_alignment_dims(config, teacher_width)


def run_config(model=None, **alignment):
    return TokenizerRunConfig.parse({"model": model or {}, "alignment": alignment}, "test")


def test_the_model_gets_projections_to_the_teachers_width_where_it_aligns():
    def dims(config):
        return config.model.encoder_alignment_dim, config.model.decoder_alignment_dim

    assert dims(completed(run_config())) == (None, None)
    assert dims(completed(run_config(encoder_weight=1, decoder_weight=1))) == (1024, 1024)
    dinov2 = "vit_base_patch14_dinov2.lvd142m"
    assert dims(completed(run_config(teacher=dinov2, decoder_weight=0.5))) == (None, 768)
    stated = run_config({"encoder_alignment_dim": 768}, teacher=dinov2, encoder_weight=1)
    assert completed(stated) == stated
    begun_elsewhere = run_config({"encoder_alignment_dim": 768, "decoder_alignment_dim": 768})
    assert dims(completed(begun_elsewhere)) == (None, None)  # what is never trained would only be saved


def test_another_width_than_the_teachers_is_refused():
    config = run_config({"encoder_alignment_dim": 768}, encoder_weight=1)
    with pytest.raises(UsageError, match=r"model\.encoder_alignment_dim = 768 is not the 1024 channels of alignment"):
        completed(config)


def test_a_missing_file_of_a_teacher_is_refused(tmp_path):
    config = AlignmentConfig(teacher="test_vit", weights=str(tmp_path / "none.safetensors"))
    with pytest.raises(RestokError, match=r"alignment\.weights = .* no such file"):
        open_teacher(config, (2, 2), CPU)


def test_all_that_a_run_would_fetch_is_said_at_once_with_what_does_without(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(frozen, "try_to_load_from_cache", lambda repo, file: None)
    values = read_preset("tokenizer", "restok-l-128")
    vgg, teacher, judge = downloads(TokenizerRunConfig.parse(values, "test"))
    assert "or loss.lpips_weights=FILE, or loss.perceptual_weight=0" in vgg
    assert "alignment.weights=FILE, or alignment.encoder_weight=0 and alignment.decoder_weight=0" in teacher
    assert "discriminator.weights=FILE, discriminator.kind=patch, or discriminator.weight=0" in judge

    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth").touch()  # what is in a cache is there
    monkeypatch.setattr(frozen, "try_to_load_from_cache", lambda repo, file: str(tmp_path))
    assert downloads(TokenizerRunConfig.parse(values, "test")) == []
    values["alignment"]["weights"] = values["discriminator"]["weights"] = "random"
    monkeypatch.setattr(frozen, "try_to_load_from_cache", lambda repo, file: None)
    assert downloads(TokenizerRunConfig.parse(values, "test")) == []
