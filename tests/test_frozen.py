"""Networks of timm with frozen weights: where those come from, and what is refused."""

from copy import deepcopy
from unittest.mock import Mock

import pytest
import timm
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file

from restok_cli.errors import RestokError, UsageError
from restok_cli.settings.training import TokenizerRunConfig
from restok_cli.training.frozen import build, open_frozen, take_dtype, weights_fingerprint
from restok_cli.training.losses import open_tokenizer_losses

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network():
    """The smallest ViT of timm, which takes images of 160 pixels."""
    torch.manual_seed(1)
    return timm.create_model("test_vit", pretrained=False).eval()


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@torch.no_grad()
def test_weights_come_from_a_local_file(network, tmp_path, suffix):
    path = tmp_path / f"weights.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(network.state_dict(), path)
    found = open_frozen("test_vit", str(path), (160, 160), CPU, "alignment")
    images = torch.rand(2, 3, 160, 160)
    assert torch.equal(found.forward_features(images), network.forward_features(images))
    assert not found.training and not any(p.requires_grad for p in found.parameters())


@torch.no_grad()
def test_learned_positions_are_resized_to_the_pictures(network, tmp_path):
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    found = open_frozen("test_vit", str(tmp_path / "weights.safetensors"), (64, 32), CPU, "alignment")
    assert found.forward_features(torch.rand(1, 3, 64, 32)).shape == (1, 1 + 4 * 2, 64)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_in_the_type_of_autocast_give_the_same_bits(network, dtype):
    images, short = torch.rand(2, 3, 160, 160), deepcopy(network)
    take_dtype(short, dtype)
    assert short.blocks[0].attn.qkv.weight.dtype == short.patch_embed.proj.weight.dtype == dtype
    assert short.blocks[0].norm1.weight.dtype == short.pos_embed.dtype == torch.float32
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        assert torch.equal(short.forward_features(images), network.forward_features(images))


@pytest.mark.parametrize("damage", ["missing", "shape", "extra"])
def test_a_file_of_other_weights_is_refused(network, tmp_path, damage):
    state = dict(network.state_dict())
    match damage:
        case "missing":
            del state["blocks.0.norm1.weight"]
        case "shape":
            state["blocks.0.norm1.weight"] = torch.zeros(3)
        case "extra":
            state["blocks.99.norm1.weight"] = torch.zeros(3)
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(
        RestokError, match=r"alignment\.weights = .* does not hold the weights of test_vit .*norm1"
    ) as e:
        open_frozen("test_vit", str(tmp_path / "weights.safetensors"), (160, 160), CPU, "alignment")
    assert "\n" not in str(e.value) and "https://huggingface.co/timm/test_vit.r160_in1k" in str(e.value)


@pytest.mark.parametrize("content", [b"", b"text\n", b"PK\x03\x04"], ids=["empty", "text", "cut short"])
@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_damaged_file_is_refused(tmp_path, suffix, content):
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(content)
    with pytest.raises(RestokError, match=r"does not hold the weights of test_vit"):
        open_frozen("test_vit", str(path), (160, 160), CPU, "alignment")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"alignment\.weights = .*: no such file"):
        open_frozen("test_vit", str(tmp_path / "none.pth"), (160, 160), CPU, "alignment")


def test_without_a_network_the_error_says_what_to_download_and_which_field_to_set(monkeypatch):
    def offline(*_, **__):
        raise LocalEntryNotFoundError("no\nconnection")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", offline)
    with pytest.raises(
        RestokError, match=r"weights of test_vit cannot be downloaded \(no connection\); fetch "
    ) as error:
        open_frozen("test_vit", None, (160, 160), CPU, "discriminator")
    assert "set discriminator.weights to that file" in str(error.value)


@pytest.mark.parametrize(
    "weights, message",
    [
        (None, r"the weights of test_vit cannot be used \(too narrow\); fetch "),
        ("random", r"test_vit cannot be built with alignment\.weights = random \(too narrow\); give another network"),
    ],
)
def test_what_fails_without_a_file_blames_neither_a_file_nor_a_download(monkeypatch, weights, message):
    monkeypatch.setattr(timm, "create_model", Mock(side_effect=RuntimeError("too\nnarrow")))
    with pytest.raises(RestokError, match=rf"^{message}"):
        open_frozen("test_vit", weights, (160, 160), CPU, "alignment")


def test_random_weights_are_the_same_each_time_and_draw_nothing():
    torch.manual_seed(5)
    first = open_frozen("test_vit", "random", (160, 160), CPU, "alignment")
    number = torch.rand(())
    torch.manual_seed(5)
    assert torch.equal(number, torch.rand(()))
    second = open_frozen("test_vit", "random", (160, 160), CPU, "alignment")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_smal_patch16_224", r"did you mean vit_small_patch16_224\?"),
        ("vit_small_patch16_224.dinno", r"timm has .*_224, but no weights .* dinno .*did you mean .*224\.dino\?"),
        ("test_vit.r160_in1k/x", r"timm has test_vit, but no weights for it called r160_in1k/x .*'test_vit\.\*'"),
        ("resnet18", "no grid of patch tokens"),
        ("naflexvit_base_patch16_siglip", "no grid of patch tokens"),
        ("hf-hub:someone/something", "no network of timm"),
    ],
)
def test_names_of_no_vit_are_refused(name, message):
    with pytest.raises(UsageError, match=rf"alignment\.teacher = {name}.*{message}"):
        build(name, "alignment.teacher")


def test_a_network_that_cannot_be_built_is_not_called_unknown(monkeypatch):
    monkeypatch.setattr(timm, "create_model", Mock(side_effect=RuntimeError("no room\nfor it")))
    message = r"^alignment\.teacher = test_vit cannot be built by the timm .*\(no room for it\); give a ViT"
    with pytest.raises(UsageError, match=message):
        build("test_vit", "alignment.teacher")


def test_a_run_knows_its_networks_as_they_were_read_also_after_a_preflight_has_used_them():
    values = {"alignment": {"teacher": "test_vit", "weights": "random", "encoder_weight": 1}}
    losses = open_tokenizer_losses(TokenizerRunConfig.parse(values, "test"), CPU)
    network = losses.teacher.network
    found = {"network of alignment.weights": weights_fingerprint(network)}
    take_dtype(network, torch.bfloat16)
    assert losses.fingerprints == found
    assert weights_fingerprint(network) not in found.values()
