"""Configs refuse what cannot be, with the values in the message."""

import pytest
from pydantic import ValidationError

from restok_cli.errors import UsageError
from restok_cli.model.config import HarConfig, TokenizerConfig


def test_defaults_are_the_models_of_the_paper():
    tokenizer, har = TokenizerConfig(), HarConfig()
    assert tokenizer.grid == (16, 16) and tokenizer.num_image_tokens == 256
    assert har.is_har and har.ffn_width == 2816


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_width": 250}, "image_width = 250 is not a multiple of patch_size = 16; 128 or 256 would do"),
        ({"image_height": 250}, "image_height = 250 is not a multiple of patch_size = 16; 240 or 256 would do"),
        (
            {"image_height": 250, "image_width": 250},
            "image_height = 250 is not a multiple of patch_size = 16; 128 or 256 would do",
        ),
        ({"image_width": 16}, "rows of 1 image tokens: each merge divides them by 2; 128 would do"),
        ({"num_latent_tokens": 96}, "num_latent_tokens = 96 is not a power of two"),
        ({"encoder_width": 1000}, "encoder_width = 1000 is not a multiple of head_width = 64"),
        ({"head_width": 6, "encoder_width": 600, "decoder_width": 600}, "head_width = 6 is not a multiple of 4"),
        ({"num_stages": 6}, "num_stages = 6 cannot be made from rows of 16 image tokens"),
        ({"num_stages": 0}, "num_stages = 0: input should be greater than 0"),
        ({"encoder_layers": 3}, "encoder_layers = 3 are too few for num_stages = 4"),
        ({"merge_factor": 3}, "merge_factor = 3 is not a power of two"),
        ({"patch_size": 8}, "patch_size = 8 needs log2(patch_size) + 1 cnn_multipliers, not 5"),
        ({"cnn_multipliers": (1, 0, 1, 1, 1)}, "cnn_multipliers.1 = 0: input should be greater than 0"),
        ({"codebook_size": 0}, "codebook_size = 0: input should be greater than 0"),
        ({"cnn_channels": 48}, "48 CNN channels cannot be split into cnn_norm_groups = 32"),
        ({"latent_init": "flat"}, "residual_latent_tokens = true needs latent_init = hierarchical"),
        (
            {"latent_init": "flat", "residual_latent_tokens": False, "image_queries": "pooled"},
            "image_queries = pooled needs latent_init = hierarchical",
        ),
    ],
)
def test_impossible_tokenizers_are_refused_with_the_reason(values, message):
    with pytest.raises(UsageError) as error:
        TokenizerConfig.parse(values, "test")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_codes": 100}, "num_codes = 100 is not a power of two"),
        ({"num_sequential_codes": 3}, "num_sequential_codes = 3 is no power of two up to num_codes = 128"),
        ({"num_sequential_codes": 256}, "num_sequential_codes = 256"),
        ({"num_heads": 3}, "width = 1024 cannot be split into num_heads = 3"),
        ({"num_classes": -1}, "num_classes = -1: input should be greater than or equal to 0"),
        ({"token_dropout": 1.0}, "token_dropout = 1.0: input should be less than 1"),
    ],
)
def test_impossible_generators_are_refused_with_the_reason(values, message):
    with pytest.raises(UsageError) as error:
        HarConfig.parse(values, "test")
    assert message in str(error.value)


def test_unknown_keys_are_refused_with_the_nearest_known_one():
    with pytest.raises(UsageError, match=r"test: unknown key codebok_size \(did you mean codebook_size\?\)"):
        TokenizerConfig.parse({"codebok_size": 1}, "test")


def test_a_value_of_the_wrong_kind_is_shown():
    with pytest.raises(UsageError, match="codebook_size = 'many': input should be a valid integer"):
        TokenizerConfig.parse({"codebook_size": "many"}, "test")


def test_configs_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        TokenizerConfig().codebook_size = 1
