"""The tensors of the authors' released checkpoints: names and shapes, and how ours correspond (see released.py)."""

import re
from typing import TypeVar

import torch
from torch import Tensor

from restok_cli.model.config import HarConfig, TokenizerConfig
from restok_cli.model.levels import level_sizes

TEACHER_PREFIX = "foundation_model."  # the frozen teacher that training kept inside the model
COMPILED_PREFIX = "_orig_mod."  # what torch.compile puts before every name
TRAINING_ONLY = ("vf_proj.", "vf_proj_dec.", "decoder.feat_mask_token")
Model = TypeVar("Model", bound=TokenizerConfig | HarConfig)


def without_missing_heads(config: Model, released: dict[str, Tensor]) -> Model:
    """The config of weights that were saved without what only training uses: without alignment, if they lack it."""
    heads = {"encoder_alignment_dim": "vf_proj.weight", "decoder_alignment_dim": "vf_proj_dec.weight"}
    missing = {field: None for field, name in heads.items() if hasattr(config, field) and name not in released}
    return config.model_copy(update=missing)


def released_names(name: str, config: TokenizerConfig | HarConfig) -> list[str]:
    """The released tensor, or the list of them by level or stage, that our tensor `name` is made of."""
    return _tokenizer_names(name, config) if isinstance(config, TokenizerConfig) else [_har_name(name)]


def _tokenizer_names(name: str, config: TokenizerConfig) -> list[str]:
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


def _har_name(name: str) -> str:
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
    return name


def released_shapes(config: TokenizerConfig | HarConfig, ours: dict[str, torch.Size]) -> dict[str, torch.Size]:
    """Name and shape of every tensor that the released code builds for a config; `ours` are those of our state dict."""
    state = {name: torch.empty(shape, device="meta") for name, shape in ours.items()}
    return {name: tensor.shape for name, tensor in to_released(config, state).items()}


def is_training_only(name: str) -> bool:
    """Whether a released tensor is the teacher's or only training's: a model may be built without it."""
    return name.startswith((TEACHER_PREFIX, *TRAINING_ONLY))


def from_released(
    config: TokenizerConfig | HarConfig, ours: dict[str, torch.Size], released: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Our state dict, with the names and shapes `ours`, of a released one that has all of `released_shapes`."""
    state = {}
    for name, shape in ours.items():
        theirs = released_names(name, config)
        tensor = released[theirs[0]] if len(theirs) == 1 else torch.cat([released[part] for part in theirs])
        if name == "query_embedding":  # the released table has L − 1 rows, of which only these are ever used
            tensor = tensor[: shape[0]]
        state[name] = tensor.reshape(shape)
    return state


def to_released(config: TokenizerConfig | HarConfig, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict with the released names and shapes, the reverse of `from_released`."""
    released = {}
    for name, tensor in state.items():
        if isinstance(config, HarConfig) and name == "query_embedding":
            # rows that nothing uses, as nothing set them in training either
            unused = config.num_codes - 1 - len(tensor)
            tensor = torch.cat([tensor, tensor.new_zeros(unused, tensor.shape[1])])
        theirs = released_names(name, config)
        parts = [tensor] if len(theirs) == 1 else tensor.split(1)
        released |= {part: _released_shape(part, value) for part, value in zip(theirs, parts, strict=True)}
    return released


def _released_shape(name: str, tensor: Tensor) -> Tensor:
    if name.endswith("mask_token"):
        return tensor.view(1, 1, -1)
    if re.fullmatch(r"(encoder\.conv_out.*|vf_proj.*)\.weight", name):  # linear layers there are 1×1 convolutions
        return tensor.view(*tensor.shape, 1, 1)
    return tensor
