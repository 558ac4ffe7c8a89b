"""The authors' released checkpoints: their configs and tensor names, and how ours correspond (ALGORITHM section 5)."""

import re

import torch
from torch import Tensor

from restok_cli.errors import RestokError
from restok_cli.model.config import HarConfig, TokenizerConfig
from restok_cli.model.levels import level_sizes

VIT_SIZES = {"small": (512, 6), "base": (768, 12), "large": (1024, 24)}  # width, layers


TEACHER_PREFIX = "foundation_model."  # the frozen teacher that training kept inside the model
COMPILED_PREFIX = "_orig_mod."  # what torch.compile puts before every name
TRAINING_ONLY = ("vf_proj.", "vf_proj_dec.", "decoder.feat_mask_token")


def kind_of(released: dict) -> str | None:
    """Whether a `config.json` is that of a released "tokenizer" or generator ("har"), or neither (None)."""
    if "vq_model" in (released.get("model") or ()):
        return "tokenizer"
    return "har" if {"cls_token_num", "block_size", "n_layer"} <= released.keys() else None


def tokenizer_config(released: dict) -> TokenizerConfig:
    """Our config of a released tokenizer's `config.json`."""
    model = released["model"]["vq_model"]
    encoder_width, encoder_layers = VIT_SIZES[model["vit_enc_model_size"]]
    decoder_width, decoder_layers = VIT_SIZES[model["vit_dec_model_size"]]
    size = released["dataset"]["preprocessing"]["crop_size"]
    teacher_width = 1024  # DINOv3 ViT-L, the only teacher of the released models
    return TokenizerConfig(
        image_height=size,
        image_width=size,
        patch_size=model["vit_enc_patch_size"],
        pixel_encoder="cnn" if model["vae_encoder"] else "patch",
        cnn_shortcut="output",
        encoder_width=encoder_width,
        encoder_layers=encoder_layers,
        decoder_width=decoder_width,
        decoder_layers=decoder_layers,
        num_stages=model["hierarchy_stages"] if model["merge_tokens"] else 1,
        merge_factor=round(1 / model["reduction_ratio"]),
        merge="nearest",
        residual_image_tokens=model["residual_image_tokens"],
        num_latent_tokens=model["num_latent_tokens"],
        latent_init="hierarchical" if model["latent_hierarchy"] else "flat",
        residual_latent_tokens=model["residual_latent_tokens"],
        latent_layout="scrambled",
        head_per_level=model["multi_quant"],
        image_queries="learned" if model["learnable_dec_image_tokens"] else "pooled",
        codebook_size=model["codebook_size"],
        codebook_dim=model["token_size"],
        normalize_codes=model["use_l2_norm"],
        encoder_alignment_dim=teacher_width if model["encoder_feature_supervision"] else None,
        decoder_alignment_dim=teacher_width if model["decoder_feature_supervision"] else None,
    )


def without_missing_heads(config: TokenizerConfig | HarConfig, released: dict[str, Tensor]):
    """The config of weights that were saved without what only training uses: without alignment, if they lack it."""
    names = {name.removeprefix(COMPILED_PREFIX) for name in released}
    if isinstance(config, TokenizerConfig):
        for name, field in (
            ("vf_proj.weight", "encoder_alignment_dim"),
            ("vf_proj_dec.weight", "decoder_alignment_dim"),
        ):
            if name not in names:
                config = config.model_copy(update={field: None})
    return config


def har_config(released: dict) -> HarConfig:
    """Our config of a released generator's `config.json`; without `ar_token_num` it is plain AR."""
    return HarConfig(
        codebook_size=released["vocab_size"],
        num_codes=released["block_size"],
        num_sequential_codes=released.get("ar_token_num", released["block_size"]),
        num_classes=released["num_classes"],
        width=released["dim"],
        num_layers=released["n_layer"],
        num_heads=released["n_head"],
        class_dropout=released["class_dropout_prob"],
        token_dropout=released["token_dropout_p"],
        residual_dropout=released["resid_dropout_p"],
        ffn_dropout=released["ffn_dropout_p"],
    )


def tokenizer_names(name: str, config: TokenizerConfig) -> list[str]:
    """The released tensor, or the list of them by level or stage, that our tensor `name` is made of."""
    levels = range(len(level_sizes(config.num_latent_tokens)))
    if name == "encoder.stage_embeddings":
        return [f"encoder.level_embedding.{i}" for i in range(config.num_stages)]
    if name.endswith("level_embeddings"):
        return [f"{name.split('.')[0]}.latent_token_level_embedding.{i}" for i in levels]
    if match := re.fullmatch(r"pixel_decoder\.(up|upsample)\.(\d+)\.(.*)", name):
        kind, index, rest = match.groups()  # ours from coarse to fine, theirs from fine to coarse
        resolution = len(config.cnn_multipliers) - 1 - int(index)
        name = f"pixel_decoder.up.{resolution}." + (f"upsample_conv.{rest}" if kind == "upsample" else f"block.{rest}")
    embed = "" if config.pixel_encoder == "cnn" else "proj."
    head = r".\2" if config.head_per_level else ""
    for ours, theirs in (
        (r"^(pixel_encoder\.down\.\d+)\.", r"\1.block."),
        (r"\.shortcut\.", ".nin_shortcut."),
        (r"\.gamma([12])$", r".gamma_\1"),
        (r"\.norm_in\.", ".ln_pre."),
        (r"^(encoder|decoder)\.norm_out\.", r"\1.ln_post."),
        (r"^encoder\.embed\.", f"encoder.patch_embed.{embed}"),
        (r"^(encoder\.)heads\.linears\.(\d+)", rf"\1conv_out{head}"),
        (r"^(decoder\.)embed\.linears\.(\d+)", rf"\1decoder_embed{head}"),
        (r"^decoder\.mask_vector$", "decoder.latent_mask_token"),
        (r"^decoder\.image_query$", "decoder.mask_token"),
        (r"^decoder\.alignment_query$", "decoder.feat_mask_token"),
        (r"^decoder\.out\.", "decoder.ffn."),
        (r"^quantizer\.codebook$", "quantize.embedding.weight"),
        (r"^encoder_alignment\.", "vf_proj."),
        (r"^decoder_alignment\.", "vf_proj_dec."),
    ):
        name = re.sub(ours, theirs, name)
    return [name]


def har_names(name: str) -> list[str]:
    """The released tensor that our tensor `name` of a generator is."""
    for ours, theirs in (
        (r"^class_embedding\.", "cls_embedding.embedding_table."),
        (r"^code_embedding\.", "tok_embeddings."),
        (r"^query_embedding$", "spe_tok_embeddings.special_embeddings.weight"),
        (r"^head\.", "output."),
        (r"\.qkv\.", ".attention.wqkv."),
        (r"\.proj\.", ".attention.wo."),
        (r"\.gate\.", ".feed_forward.w1."),
        (r"\.up\.", ".feed_forward.w3."),
        (r"\.down\.", ".feed_forward.w2."),
        (r"^blocks\.", "layers."),
    ):
        name = re.sub(ours, theirs, name)
    return [name]


def from_released(config: TokenizerConfig | HarConfig, ours: dict[str, torch.Size], released: dict[str, Tensor]):
    """Our state dict, with the names and shapes `ours`, of a released one.

    The teacher is passed over, and so is what only training used where our model is built without it. Raises
    RestokError naming the first tensor that is missing, of another shape, or has no place in the model.
    """
    released = {name.removeprefix(COMPILED_PREFIX): tensor for name, tensor in released.items()}
    state, used = {}, set()
    for name, shape in ours.items():
        theirs = tokenizer_names(name, config) if isinstance(config, TokenizerConfig) else har_names(name)
        for part in theirs:
            if part not in released:
                raise RestokError(f"the released weights lack the tensor {part}; is this the whole checkpoint?")
        tensor = released[theirs[0]] if len(theirs) == 1 else torch.cat([released[part] for part in theirs])
        if name == "query_embedding":  # the released table has L − 1 rows, of which only these are ever used
            tensor = tensor[: shape[0]]
        if tensor.numel() != shape.numel():
            raise RestokError(
                f"released tensor {theirs[0]} has shape {tuple(tensor.shape)}; the model needs {tuple(shape)}"
            )
        state[name] = tensor.reshape(shape)
        used.update(theirs)
    for name in sorted(released.keys() - used):
        if not name.startswith((TEACHER_PREFIX, *TRAINING_ONLY)):
            raise RestokError(f"the released weights hold a tensor {name} that this model has no place for")
    return state
