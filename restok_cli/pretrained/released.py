"""The configs of the authors' released checkpoints, and how ours correspond (docs/algorithm.md section 5).

Their tensors: released_tensors.py. No torch here.
"""

from typing import Literal

from pydantic import AliasPath, BaseModel, ConfigDict, Field

from restok_cli.errors import UsageError
from restok_cli.model.config import Config, HarConfig, TokenizerConfig
from restok_cli.pretrained.checksums import REMEDY
from restok_cli.schema import check

VIT_SIZES = {"small": (512, 6), "base": (768, 12), "large": (1024, 24)}  # width, layers
CONFIG_NAME = "config.json"
TEACHER_WIDTH = 1024  # DINOv3 ViT-L, the only teacher of the released models

SAME = {  # fields of our tokenizer's config, and theirs of the same value
    "patch_size": "vit_enc_patch_size",
    "residual_image_tokens": "residual_image_tokens",
    "num_latent_tokens": "num_latent_tokens",
    "residual_latent_tokens": "residual_latent_tokens",
    "head_per_level": "multi_quant",
    "codebook_size": "codebook_size",
    "codebook_dim": "token_size",
    "normalize_codes": "use_l2_norm",
}
FLAGS = {  # fields of ours, and their flag for it: the value that it stands for where it is set, and where it is not
    "pixel_encoder": ("vae_encoder", "cnn", "patch"),
    "latent_init": ("latent_hierarchy", "hierarchical", "flat"),
    "image_queries": ("learnable_dec_image_tokens", "learned", "pooled"),
    "encoder_alignment_dim": ("encoder_feature_supervision", TEACHER_WIDTH, None),
    "decoder_alignment_dim": ("decoder_feature_supervision", TEACHER_WIDTH, None),
}
ONLY_OURS = {"cnn_shortcut": "output", "merge": "nearest", "latent_layout": "scrambled"}  # as all of theirs are
FIXED = {"rope_base_len": 10000, "learnable_latent_tokens": False}  # what theirs may compute otherwise, and ours not
FIXED_HAR = {"rope_base": 10000.0, "norm_eps": 1e-5, "cls_token_num": 1}
# What their training alone reads, and a model does not tell: no nested dropout, as where they only use a tokenizer.
THEIR_TRAINING = {
    "commitment_cost": 0.25,
    "entropy_loss_ratio": 0.0,
    "num_min_tokens": 4,
    "drop_latent_tokens": False,
    "drop_prob": 0.0,
    "learnable_dec_feat_tokens": True,
    "use_vf": "dinov3",
}


class _VqModel(BaseModel):
    """Those of their tokenizer's settings that we take."""

    codebook_size: int
    token_size: int
    use_l2_norm: bool
    vit_enc_model_size: Literal["small", "base", "large"]
    vit_dec_model_size: Literal["small", "base", "large"]
    vit_enc_patch_size: int
    num_latent_tokens: int
    merge_tokens: bool
    hierarchy_stages: int
    reduction_ratio: float = Field(ge=2**-20, le=1)
    residual_image_tokens: bool
    residual_latent_tokens: bool
    learnable_dec_image_tokens: bool
    multi_quant: bool
    vae_encoder: bool
    latent_hierarchy: bool
    encoder_feature_supervision: bool
    decoder_feature_supervision: bool


class _Tokenizer(BaseModel):
    vq_model: _VqModel = Field(validation_alias=AliasPath("model", "vq_model"))
    crop_size: int = Field(validation_alias=AliasPath("dataset", "preprocessing", "crop_size"))


class _Generator(BaseModel):
    """Their generator's settings under our names."""

    model_config = ConfigDict(populate_by_name=True)

    codebook_size: int = Field(alias="vocab_size")
    num_codes: int = Field(alias="block_size")
    num_sequential_codes: int | None = Field(default=None, alias="ar_token_num")  # None of plain AR
    num_classes: int
    width: int = Field(alias="dim")
    num_layers: int = Field(alias="n_layer")
    num_heads: int = Field(alias="n_head")
    class_dropout: float = Field(alias="class_dropout_prob")
    token_dropout: float = Field(alias="token_dropout_p")
    residual_dropout: float = Field(alias="resid_dropout_p")
    ffn_dropout: float = Field(alias="ffn_dropout_p")


def kind_of(released: dict) -> str | None:
    """Whether a `config.json` is that of a released "tokenizer" or generator ("har"), or neither (None)."""
    model = released.get("model")
    if isinstance(model, dict) and "vq_model" in model:
        return "tokenizer"
    return "har" if {"cls_token_num", "block_size", "n_layer"} <= released.keys() else None


def tokenizer_config(released: dict, source: str = CONFIG_NAME) -> TokenizerConfig:
    """Our config of a released tokenizer's `config.json`. Raises UsageError, naming `source`, for an impossible one,
    RestokError for one that is damaged.
    """
    theirs = check(_Tokenizer, released, source, REMEDY)
    model, size = theirs.vq_model, theirs.crop_size
    fixed = FIXED | {"vit_dec_patch_size": model.vit_enc_patch_size}
    _check_fixed(released["model"]["vq_model"], fixed, source)
    encoder_width, encoder_layers = VIT_SIZES[model.vit_enc_model_size]
    decoder_width, decoder_layers = VIT_SIZES[model.vit_dec_model_size]
    values = {
        "image_height": size,
        "image_width": size,
        "encoder_width": encoder_width,
        "encoder_layers": encoder_layers,
        "decoder_width": decoder_width,
        "decoder_layers": decoder_layers,
        "num_stages": model.hierarchy_stages if model.merge_tokens else 1,
        "merge_factor": round(1 / model.reduction_ratio),
    }
    values |= ONLY_OURS | {ours: getattr(model, name) for ours, name in SAME.items()}
    values |= {ours: yes if getattr(model, flag) else no for ours, (flag, yes, no) in FLAGS.items()}
    return TokenizerConfig.parse(values, source)


def har_config(released: dict, source: str = CONFIG_NAME) -> HarConfig:
    """Our config of a released generator's `config.json`; without `ar_token_num` it is plain AR. Raises as above."""
    theirs = check(_Generator, released, source, REMEDY)
    _check_fixed(released, FIXED_HAR, source)
    if theirs.num_sequential_codes is None:
        theirs.num_sequential_codes = theirs.num_codes
    return HarConfig.parse(theirs.model_dump(), source)


def released_tokenizer_config(config: TokenizerConfig) -> dict:
    """Make the released `config.json` of a tokenizer, the reverse of `tokenizer_config`.

    Raises UsageError with the first field that the released code has no word for.
    """
    sizes = {size: name for name, size in VIT_SIZES.items()}
    encoder, decoder = (config.encoder_width, config.encoder_layers), (config.decoder_width, config.decoder_layers)
    for width, layers in (encoder, decoder):
        if (width, layers) not in sizes:
            known = ", ".join(f"{layers} of {width}" for width, layers in VIT_SIZES.values())
            raise UsageError(
                f"the released layout has no transformer of {layers} layers of width {width}, only {known}; "
                "such a model stays in ours"
            )
    model = (
        FIXED
        | THEIR_TRAINING
        | {
            "vit_enc_model_size": sizes[encoder],
            "vit_dec_model_size": sizes[decoder],
            "vit_dec_patch_size": config.patch_size,
            "test_num_latent_tokens": config.num_latent_tokens,
            "merge_tokens": config.num_stages > 1,
            "hierarchy_stages": config.num_stages,
            "reduction_ratio": 1 / config.merge_factor,
        }
    )
    model |= {name: getattr(config, ours) for ours, name in SAME.items()}
    model |= {flag: getattr(config, ours) != no for ours, (flag, _, no) in FLAGS.items()}
    released = {"model": {"vq_model": model}, "dataset": {"preprocessing": {"crop_size": config.image_height}}}
    _check_same(config, tokenizer_config(released))
    return released


def released_har_config(config: HarConfig) -> dict:
    """Make the released `config.json` of a generator. Fields that ours has no word for are as in all released ones."""
    theirs = _Generator.model_validate(config.model_dump())
    released = {
        "n_kv_head": None,
        "multiple_of": 256,
        "ffn_dim_multiplier": None,
        "initializer_range": 0.02,
        "attn_dropout_p": 0.0,
        "drop_path_rate": 0.0,
        "model_type": "c2i",
    }
    released |= FIXED_HAR | theirs.model_dump(by_alias=True, exclude={"num_sequential_codes"})
    if config.is_har:
        released |= {"ar_token_num": config.num_sequential_codes, "spe_token_num": config.num_codes - 1}
    _check_same(config, har_config(released))
    return released


def _check_fixed(settings: dict, fixed: dict, source: str) -> None:
    for name, value in fixed.items():
        if settings.get(name, value) != value:
            raise UsageError(
                f"{source}: {name} is {settings[name]!r}, and restok computes only with {value!r}; give another model"
            )


def _check_same(config: Config, back: Config) -> None:
    for name, value in config.model_dump().items():
        if value != getattr(back, name):
            raise UsageError(
                f"the released layout cannot say {name} = {value}, only {getattr(back, name)}; "
                "such a model stays in ours"
            )
