"""Properties of the tokenizer, each against something simpler."""

from copy import deepcopy
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from restok_cli.errors import UsageError
from restok_cli.model.config import TokenizerConfig
from restok_cli.model.layers import rotary_angles, rotary_table, rotate
from restok_cli.model.levels import level_sizes
from restok_cli.model.tokenizer import Tokenizer, area_pool, level_maps, pool_levels

VARIANTS = {
    "paper": {},
    "patch embedding": {"pixel_encoder": "patch"},
    "one stage": {"num_stages": 1},
    "two stages": {"num_stages": 2},
    "merging four": {"num_stages": 2, "merge_factor": 4},
    "nearest merge": {"merge": "nearest"},
    "plain image tokens": {"residual_image_tokens": False},
    "plain latent tokens": {"residual_latent_tokens": False},
    "flat latents": {"latent_init": "flat", "residual_latent_tokens": False},
    "scrambled": {"latent_layout": "scrambled"},
    "shared head": {"head_per_level": False},
    "pooled queries": {"image_queries": "pooled"},
    "plain codebook": {"normalize_codes": False},
    "released shortcut": {"cnn_shortcut": "output"},
    "alignment": {"encoder_alignment_dim": 24, "decoder_alignment_dim": 24},
    "not square": {"image_height": 16, "image_width": 64},
    "16 tokens": {"num_latent_tokens": 16},
    "1024 tokens": {"num_latent_tokens": 1024},
}


def make(config: TokenizerConfig, **changes) -> Tokenizer:
    torch.manual_seed(0)
    return Tokenizer(TokenizerConfig(**{**config.model_dump(), **changes})).eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_encodes_decodes_and_trains(tiny_config, name):
    tokenizer = make(tiny_config, **VARIANTS[name])
    config = tokenizer.config
    images = torch.rand(2, 3, *config.image_size)
    align = config.encoder_alignment_dim is not None
    result = tokenizer(images, prefix_lengths=torch.tensor([4, config.num_latent_tokens]), align=align)
    assert result.images.shape == images.shape
    assert result.quantized.codes.shape == (2, config.num_latent_tokens)
    loss = result.images.square().mean() + result.quantized.codebook_loss + result.quantized.commitment_loss
    if align:
        assert result.encoder_features.shape == (2, 24)
        assert result.decoder_features.shape == (2, 24, *config.grid)
        loss = loss + result.encoder_features.mean() + result.decoder_features.mean()
    loss.backward()
    without = [name for name, parameter in tokenizer.named_parameters() if parameter.grad is None]
    assert not without


@pytest.mark.parametrize("level", range(len(level_sizes(32))))
@torch.inference_mode()
def test_code_of_a_level_ignores_later_levels(tiny_config, images, level):
    """Noise in the initial latents of one level changes that level and later ones, and nothing before."""
    tokenizer = make(tiny_config)
    sizes = level_sizes(32)
    start = sum(sizes[:level])
    noise = torch.zeros(32, tiny_config.encoder_width)
    noise[start : start + sizes[level]] = torch.randn(sizes[level], tiny_config.encoder_width)
    before = tokenizer.encode_latents(images).latents
    pool = tokenizer.encoder.initial_latents
    tokenizer.encoder.initial_latents = lambda feature_map: pool(feature_map) + noise
    after = tokenizer.encode_latents(images).latents
    assert torch.equal(before[:, :start], after[:, :start])
    assert not torch.allclose(before[:, start : start + sizes[level]], after[:, start : start + sizes[level]])


@torch.inference_mode()
def test_scrambled_layout_mixes_all_tokens_into_every_code(tiny_config, images):
    tokenizer = make(tiny_config, latent_layout="scrambled")
    latents = torch.randn(2, 32, tiny_config.encoder_width)
    changed = latents.clone()
    changed[:, -1] += 1
    assert torch.equal(tokenizer.encoder.lay_out(latents), latents.reshape(2, -1, 32).transpose(1, 2))
    moved = (tokenizer.encoder.lay_out(latents) != tokenizer.encoder.lay_out(changed)).any(-1)
    assert moved.all()


def test_mask_lets_a_token_see_its_own_group_and_those_before(tiny_config):
    tokenizer = make(tiny_config)
    _, mask = tokenizer.encoder.tables(2)  # groups of 4, 8, 16 image tokens, then levels 1, 1, 2, 4, 8, 16
    bounds = [0, 4, 12, 28, 29, 30, 32, 36, 44, 60]
    expected = torch.zeros(60, 60, dtype=torch.bool)
    for start, stop in pairwise(bounds):
        expected[start:stop, :stop] = True
    assert torch.equal(mask, expected)


@torch.inference_mode()
def test_coarse_image_groups_ignore_finer_ones(tiny_config):
    """Noise in a group of the sequence changes what a block makes of it and of later groups, and nothing before."""
    encoder = make(tiny_config).encoder
    tokens = torch.randn(2, 60, tiny_config.encoder_width)
    before = encoder.blocks[-1](tokens, *encoder.tables(2))
    for start in (4, 12, 28):  # where the next finer image group begins, then the latent tokens
        changed = tokens.clone()
        changed[:, start:] += torch.randn_like(changed[:, start:])
        after = encoder.blocks[-1](changed, *encoder.tables(2))
        assert torch.allclose(before[:, :start], after[:, :start], atol=1e-6)
        assert not torch.allclose(before[:, start:], after[:, start:], atol=1e-2)


def test_residual_levels_add_up_to_the_feature_map_where_the_last_is_as_fine():
    feature_map = torch.randn(2, 5, 4, 4, dtype=torch.float64)
    sizes = level_sizes(32)  # the last level has 16 tokens, a 4×4 grid
    latents = pool_levels(feature_map, sizes, residual=True)
    assert torch.allclose(level_maps(latents, sizes, (4, 4), residual=True), feature_map)


def test_plain_levels_are_the_pooled_map_itself():
    feature_map = torch.randn(2, 5, 4, 4)
    latents = pool_levels(feature_map, level_sizes(32), residual=False)
    assert torch.allclose(latents[:, 0], feature_map.mean((2, 3)))
    assert torch.equal(latents[:, 16:], feature_map.flatten(2).transpose(1, 2))


@pytest.mark.parametrize("grid", [(1, 1), (1, 2), (2, 4), (8, 8), (3, 5), (16, 32)])
def test_areas_are_pooled_as_adaptive_pooling_does_it(grid):
    feature_map = torch.randn(2, 5, 8, 16)
    assert torch.equal(area_pool(feature_map, grid), F.adaptive_avg_pool2d(feature_map, grid))


def test_average_merge_is_the_mean_of_pairs_and_the_residual_has_mean_zero(tiny_config):
    tokenizer = make(tiny_config)
    tokens = torch.randn(2, 16 + 32, 8)
    merged = tokenizer.encoder.merge(tokens, 16)
    assert merged.shape == (2, 8 + 16 + 32, 8)
    for i in range(8):
        assert torch.allclose(merged[:, i], (tokens[:, 2 * i] + tokens[:, 2 * i + 1]) / 2)
    assert torch.allclose(merged[:, 8:24].unflatten(1, (8, 2)).mean(2), torch.zeros(2, 8, 8), atol=1e-6)
    assert torch.equal(merged[:, 24:], tokens[:, 16:])


@torch.inference_mode()
def test_a_prefix_of_codes_decodes_like_all_codes_cut_to_that_prefix(tiny_tokenizer, images):
    codes = tiny_tokenizer.encode(images)
    for length in (1, 4, 7, 16, 32):
        kept = torch.full((2,), length)
        features, _ = tiny_tokenizer.decoder(tiny_tokenizer.quantizer.lookup(codes), kept, align=False)
        assert torch.equal(tiny_tokenizer.decode(codes[:, :length]), tiny_tokenizer.pixel_decoder(features))
    assert not torch.allclose(tiny_tokenizer.decode(codes[:, :4]), tiny_tokenizer.decode(codes))


@torch.inference_mode()
def test_forward_is_decode_of_encode(tiny_tokenizer, images):
    decoded = tiny_tokenizer.decode(tiny_tokenizer.encode(images))
    assert torch.allclose(tiny_tokenizer(images).images, decoded, atol=1e-5)


@torch.inference_mode()
def test_prefix_lengths_count_for_each_picture_alone(tiny_tokenizer, images):
    codes = tiny_tokenizer.encode(images)
    both = tiny_tokenizer(images, prefix_lengths=torch.tensor([4, 16])).images
    assert torch.allclose(both[0], tiny_tokenizer.decode(codes[:1, :4])[0], atol=1e-5)
    assert torch.allclose(both[1], tiny_tokenizer.decode(codes[1:, :16])[0], atol=1e-5)


@torch.inference_mode()
def test_forward_pass_remembers_nothing(tiny_tokenizer, images):
    before = deepcopy(tiny_tokenizer.state_dict())
    first = tiny_tokenizer(images).images
    tiny_tokenizer(1 - images)
    assert torch.equal(tiny_tokenizer(images).images, first)
    assert all(torch.equal(before[name], tensor) for name, tensor in tiny_tokenizer.state_dict().items())


def test_a_meta_device_build_has_the_same_tensors_and_real_tables(tiny_config, tiny_tokenizer):
    with torch.device("meta"):
        built = Tokenizer(tiny_config)
    shapes = {name: tensor.shape for name, tensor in built.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in tiny_tokenizer.state_dict().items()}
    for (name, ours), (_, theirs) in zip(built.named_buffers(), tiny_tokenizer.named_buffers(), strict=True):
        assert torch.equal(ours, theirs), name


def test_rotation_turns_adjacent_pairs_by_position_times_frequency():
    table = rotary_table(rotary_angles(torch.arange(5), 4))
    tokens = torch.randn(1, 1, 5, 4)
    turned = rotate(tokens, table)
    pairs = torch.view_as_complex(tokens.unflatten(-1, (2, 2)))
    for t in range(5):
        for i, frequency in enumerate((1.0, 0.01)):
            expected = pairs[0, 0, t, i] * torch.exp(torch.tensor(1j * t * frequency))
            assert torch.allclose(torch.view_as_complex(turned.unflatten(-1, (2, 2)))[0, 0, t, i], expected)


def test_attention_scores_depend_on_distance_alone():
    tokens = torch.randn(1, 1, 2, 8)
    table = rotary_table(rotary_angles(torch.tensor([3, 7, 13, 17]), 8))
    near, far = rotate(tokens, table[:, :2]), rotate(tokens, table[:, 2:])
    assert torch.allclose(near[0, 0, 0] @ near[0, 0, 1], far[0, 0, 0] @ far[0, 0, 1], atol=1e-5)


def test_images_are_normalised_before_the_encoder(tiny_tokenizer, images):
    seen = {}
    tiny_tokenizer.pixel_encoder.register_forward_pre_hook(lambda _, pixels: seen.update(pixels=pixels[0]))
    tiny_tokenizer.encode(images)
    red = (images[:, 0] - 0.485) / 0.229
    assert torch.allclose(seen["pixels"][:, 0], red)


def test_under_autocast_all_convolutions_but_the_last_compute_in_16_bits(tiny_tokenizer, images):
    convolutions = [m for m in tiny_tokenizer.pixel_decoder.modules() if isinstance(m, torch.nn.Conv2d)]
    made = {}
    for convolution in convolutions:
        convolution.register_forward_hook(lambda module, _, features: made.update({module: features.dtype}))
    with torch.autocast("cpu", torch.bfloat16):
        result = tiny_tokenizer(images)
    assert result.images.dtype == made.pop(tiny_tokenizer.pixel_decoder.conv_out) == torch.float32
    assert set(made.values()) == {torch.bfloat16}
    assert F.mse_loss(result.images, tiny_tokenizer(images).images) < 0.1


@torch.inference_mode()
def test_a_tokenizer_for_another_size_is_one_built_for_it_with_the_same_weights(tiny_tokenizer):
    built = make(tiny_tokenizer.config, image_height=16, image_width=64)
    built.load_state_dict(tiny_tokenizer.state_dict())
    sized = tiny_tokenizer.for_size(16, 64)
    images = torch.rand(2, 3, 16, 64)
    assert torch.equal(sized.encode(images), built.encode(images))
    assert sized.quantizer.codebook.data_ptr() == tiny_tokenizer.quantizer.codebook.data_ptr()
    assert torch.equal(sized.for_size(32, 32).decode(built.encode(images)), tiny_tokenizer.decode(built.encode(images)))


def test_impossible_sizes_are_refused(tiny_tokenizer):
    with pytest.raises(UsageError, match="images of 33x32: image_width = 33 is not a multiple of patch_size = 8"):
        tiny_tokenizer.for_size(32, 33)
