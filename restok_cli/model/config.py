"""Configs of a tokenizer and of a HAR generator. Checked once, when made; no torch here."""

import ast
import inspect
from itertools import accumulate, pairwise
from typing import Annotated, Any, Literal, Self, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from restok_cli.errors import UsageError, did_you_mean
from restok_cli.model.levels import is_power_of_two, merging_blocks, stage_sizes, step_lengths
from restok_cli.schema import MAX_INT, problem


def _add_meanings(schema: dict[str, Any], config: type["Config"]) -> None:
    """Put what `meanings` finds into a config's JSON schema."""
    for name, meaning in meanings(config).items():
        schema["properties"][name]["description"] = meaning


def meanings(config: type["Config"]) -> dict[str, str]:
    """Meanings of the fields of a config: the strings below them, also of those that it inherits.

    Pydantic's use_attribute_docstrings finds the same, but reads this source whenever restok starts, for 0.15 s.
    """
    found = {}
    for kind in reversed([kind for kind in config.__mro__ if issubclass(kind, BaseModel) and kind is not BaseModel]):
        (definition,) = ast.parse(inspect.getsource(kind)).body
        for pair in pairwise(cast(ast.ClassDef, definition).body):
            match pair:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = " ".join(text.split())
    return found


class Config(BaseModel):
    """Base of every config: immutable, and unknown keys are refused.

    The string below a field is its meaning or unit, for readers of this code, of the JSON schema and of
    docs/configuration.md.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, json_schema_extra=_add_meanings)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bool(cls, value: Any, info: ValidationInfo) -> Any:
        """Python, and so pydantic, takes true for 1, which nobody means where a number is asked for."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and annotation is not bool and value not in get_args(annotation):
            raise PydanticCustomError("bool", "input should not be true or false")
        return value

    @field_validator("*")
    @classmethod
    def _refuse_pythons_own(cls, value: Any) -> Any:
        """Python's integers have no end, and its text may have halves of characters; nobody else's are so."""
        if isinstance(value, int) and abs(value) > MAX_INT:
            raise PydanticCustomError("huge", "input should fit into 64 bits")
        if isinstance(value, str) and value != value.encode(errors="replace").decode():
            raise PydanticCustomError("text", "input should be text")
        return value

    @classmethod
    def with_present_keys(cls, values: dict) -> dict:
        """Values as stated, those of keys that were replaced since under the keys of today."""
        return values

    @model_validator(mode="before")
    @classmethod
    def _read_former_keys(cls, values: Any) -> Any:
        return cls.with_present_keys(values) if isinstance(values, dict) else values

    @classmethod
    def parse(cls, values: dict, source: str) -> Self:
        """Check `values` (read from `source`, which is named in the message).

        Raises UsageError with the first thing that is wrong: its key, its value, and what was expected.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise UsageError(f"{source}: {explain(cls, error)[1]}") from None


def section_of(annotation: Any) -> type[Config] | None:
    """The config that a field holds, which may be optional; None where it holds a value."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, Config):
            return kind
    return None


def explain(config: type[Config], error: ValidationError) -> tuple[str, str]:
    """The first thing that is wrong with values of `config`: its dotted key, and a message with key and value."""
    first = error.errors()[0]
    *parents, name = first["loc"] or ("",)
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        for parent in parents:
            config = section_of(config.model_fields[str(parent)].annotation) or config
        return key, f"unknown key {key}{did_you_mean(str(name), config.model_fields)}"
    if first["type"] == "value_error":  # raised by our own checks below, which say everything
        return key, str(first.get("ctx", {})["error"])
    return key, problem(error)


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def number_or_word(name: str, value: object, least: int, word: str) -> object:
    """The value, a whole number from `least` on or the word. pydantic's words would be about the two types."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and value >= least and value % 1 == 0
    require(number or value == word, f"{name} = {value} is neither a number from {least} on nor {word}")
    return value


# Far above all that anybody has trained: what is beyond is damage, of which no layers are made.
MAX_SIZE = 2**20
Size = Annotated[int, Field(gt=0, le=MAX_SIZE)]
CodebookSize = Annotated[int, Field(gt=0, le=2**24)]
Layers = Annotated[int, Field(gt=0, le=1000)]
NumClasses = Annotated[int, Field(ge=0, le=10**6)]


class TokenizerConfig(Config):
    """A tokenizer (paper section 3). The defaults are ResTok-L with 128 tokens for 256×256 images."""

    image_height: Size = 256
    """Pixels."""
    image_width: Size = 256
    """Pixels."""
    patch_size: Size = 16
    """Pixels along each side of an image token."""

    pixel_encoder: Literal["cnn", "patch"] = "cnn"
    """A CNN before the ViT, or the pixels of each patch directly."""
    cnn_channels: Size = 128
    """Channels at the finest resolution."""
    cnn_multipliers: tuple[Size, ...] = (1, 1, 2, 2, 4)
    """Times cnn_channels, one per resolution, finest first."""
    cnn_norm_groups: Size = 32
    """Groups of every GroupNorm."""
    cnn_shortcut: Literal["input", "output"] = "input"
    """Input of the 1×1 convolution in a block that changes its channel count: the block's input as usual, or the
    output of its two convolutions, as the released weights were trained."""
    feature_channels: Size = 256
    """Channels between the CNNs and the transformers."""

    encoder_width: Size = 1024
    """Channels of an image or latent token in the encoder."""
    encoder_layers: Layers = 24
    """Transformer blocks."""
    decoder_width: Size = 1024
    """Channels of a token in the decoder."""
    decoder_layers: Layers = 24
    """Transformer blocks."""
    head_width: Size = 64
    """Channels of one attention head."""

    num_stages: Size = 4
    """Scales of image tokens in the encoder; 1 = no merging."""
    merge_factor: Size = 2
    """Neighbouring image tokens that become one at each merge ("pooling factor")."""
    merge: Literal["average", "nearest"] = "average"
    """How they become one: their average as in the paper, or the first of them (released code)."""
    residual_image_tokens: bool = True
    """Keep in the finer stage only what the coarser one does not hold."""

    num_latent_tokens: Size = 128
    """Codes of an image: a power of two."""
    latent_init: Literal["hierarchical", "flat"] = "hierarchical"
    """Pool the features level by level, or in 1-D."""
    residual_latent_tokens: bool = True
    """Pool each level from what the coarser levels left over (Algorithm 1)."""
    latent_layout: Literal["straight", "scrambled"] = "straight"
    """straight: a token's code comes from that token. scrambled: before the heads the (L, C) latents of an image are
    re-read, without a transpose, as (C, L), as the released weights were trained: every code mixes all tokens."""
    head_per_level: bool = True
    """Own projections to and from code vectors for each level ("multi-quant")."""
    image_queries: Literal["learned", "pooled"] = "learned"
    """Image tokens that the decoder starts from: one learned token, or the level maps."""

    codebook_size: CodebookSize = 8192
    """Codewords."""
    codebook_dim: Size = 8
    """Channels of a codeword."""
    normalize_codes: bool = True
    """Compare latents and codewords on the unit sphere."""

    encoder_alignment_dim: Size | None = None
    """Channels of the teacher that training aligns the encoder with."""
    decoder_alignment_dim: Size | None = None
    """Channels of the teacher that training aligns the decoder with, which then gets a second set of queries."""

    @property
    def image_size(self) -> tuple[int, int]:
        return self.image_height, self.image_width

    @property
    def grid(self) -> tuple[int, int]:
        """Image tokens (rows, columns)."""
        return self.image_height // self.patch_size, self.image_width // self.patch_size

    @property
    def num_image_tokens(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def image_bytes(self) -> int:
        """Of an image as it is loaded."""
        return 3 * self.image_height * self.image_width

    @property
    def least_memory(self) -> int:
        """Bytes that it takes beside its weights, at the least, to be built and to see one image.

        Each stage has its own mask, of all tokens by all tokens, and like the decoder its rotary table.
        """
        sizes = stage_sizes(self.num_image_tokens, self.num_stages, self.merge_factor)
        lengths = [total + self.num_latent_tokens for total in accumulate(sizes)]
        masks = sum(length**2 for length in lengths)
        tables = 12 * self.head_width * (sum(lengths) + lengths[0])
        return masks + tables + self.image_bytes

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("image_height", "image_width"):
            size = getattr(self, name)
            require(
                size % self.patch_size == 0,
                f"{name} = {size} is not a multiple of patch_size = {self.patch_size}{self._fitting(name)}",
            )
        self._check_cnn()
        for name in ("encoder_width", "decoder_width"):
            width = getattr(self, name)
            require(
                width % self.head_width == 0, f"{name} = {width} is not a multiple of head_width = {self.head_width}"
            )
        require(self.head_width % 4 == 0, f"head_width = {self.head_width} is not a multiple of 4 (2-D rotary pairs)")
        require(
            is_power_of_two(self.num_latent_tokens) and self.num_latent_tokens >= 2,
            f"num_latent_tokens = {self.num_latent_tokens} is not a power of two from 2 on",
        )
        self._check_stages()
        require(
            self.latent_init == "hierarchical" or not self.residual_latent_tokens,
            "residual_latent_tokens = true needs latent_init = hierarchical: flat latents have no coarser level",
        )
        require(
            self.latent_init == "hierarchical" or self.image_queries == "learned",
            "image_queries = pooled needs latent_init = hierarchical: flat latents form no level maps",
        )
        return self

    def _fitting(self, name: str) -> str:
        """The end of a message: the sizes nearest to that of the field `name` that patches and stages divide."""
        unit = self.patch_size
        if name == "image_width" or self.image_height == self.image_width:  # squares are to stay so
            unit *= self.merge_factor ** (self.num_stages - 1)
        below = getattr(self, name) // unit * unit
        sizes = [str(size) for size in (below, below + unit) if 0 < size <= MAX_SIZE]
        return f"; {' or '.join(sizes)} would do" if sizes else ""

    def _check_cnn(self) -> None:
        resolutions = len(self.cnn_multipliers)
        require(
            self.patch_size == 2 ** (resolutions - 1),
            f"patch_size = {self.patch_size} needs log2(patch_size) + 1 cnn_multipliers, not {resolutions}",
        )
        for multiplier in self.cnn_multipliers:
            channels = multiplier * self.cnn_channels
            require(channels <= MAX_SIZE, f"cnn_multipliers = {multiplier} makes {channels} channels of cnn_channels")
            require(
                channels % self.cnn_norm_groups == 0,
                f"{channels} CNN channels cannot be split into cnn_norm_groups = {self.cnn_norm_groups}",
            )

    def _check_stages(self) -> None:
        require(
            self.merge_factor >= 2 and is_power_of_two(self.merge_factor),
            f"merge_factor = {self.merge_factor} is not a power of two from 2 on",
        )
        require(
            self.grid[1] % self.merge_factor ** (self.num_stages - 1) == 0,
            f"num_stages = {self.num_stages} cannot be made from rows of {self.grid[1]} image tokens: "
            f"each merge divides them by {self.merge_factor}{self._fitting('image_width')}",
        )
        blocks = merging_blocks(self.encoder_layers, self.num_stages)
        require(
            len(set(blocks)) == len(blocks) and min(blocks, default=0) >= 0,
            f"encoder_layers = {self.encoder_layers} are too few for num_stages = {self.num_stages}: one per merge",
        )


class HarConfig(Config):
    """A generator of codes (paper section 3.4): HAR, or plain AR. The defaults are HAR-L for ResTok-L."""

    codebook_size: CodebookSize = 8192
    """Codewords of the tokenizer."""
    num_codes: Size = 128
    """Codes of an image."""
    num_sequential_codes: Size = 4
    """Codes drawn one by one before whole levels; equal to num_codes: plain AR."""
    num_classes: NumClasses = 1000
    """Classes of the data set; 0 = unconditional."""

    width: Size = 1024
    """Channels of a token."""
    num_layers: Layers = 24
    """Transformer blocks."""
    num_heads: Size = 16
    """Attention heads of a block."""

    class_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of training images whose class is hidden, for guidance."""
    token_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share dropped of the input embeddings."""
    residual_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share dropped of what attention adds."""
    ffn_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share dropped of what the feed-forward layer adds."""

    @property
    def is_har(self) -> bool:
        """Whether any step draws more than one code."""
        return self.num_sequential_codes < self.num_codes

    @property
    def ffn_width(self) -> int:
        """8/3 of the width, rounded up to a multiple of 256 (LlamaGen)."""
        return -(-(8 * self.width // 3) // 256) * 256

    @property
    def image_bytes(self) -> int:
        """Of the codes of an image as they are loaded."""
        return 8 * self.num_codes

    @property
    def least_memory(self) -> int:
        """Bytes that it takes beside its weights, at the least: its mask of all codes by all codes, and its table."""
        return self.num_codes**2 + 12 * self.width // self.num_heads * self.num_codes

    @model_validator(mode="after")
    def _check(self) -> Self:
        require(is_power_of_two(self.num_codes), f"num_codes = {self.num_codes} is not a power of two")
        require(
            is_power_of_two(self.num_sequential_codes) and self.num_sequential_codes <= self.num_codes,
            f"num_sequential_codes = {self.num_sequential_codes} is no power of two up to num_codes = {self.num_codes}",
        )
        require(
            self.width % self.num_heads == 0 and self.width // self.num_heads % 2 == 0,
            f"width = {self.width} cannot be split into num_heads = {self.num_heads} heads of even width",
        )
        return self


def check_num_steps(config: HarConfig, num_steps: int | None) -> int:
    """`num_steps`, or all where it is None. Raises UsageError with what the model can take."""
    lengths = step_lengths(config.num_codes, config.num_sequential_codes)
    if num_steps is None:
        return len(lengths)
    if not 1 <= num_steps <= len(lengths):
        raise UsageError(f"--steps {num_steps}: this model takes 1 to {len(lengths)} steps; give one of those")
    return num_steps
