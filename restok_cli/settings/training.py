"""How a run trains: what a preset holds beside the model. Checked once, when made; no torch here."""

import os
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from restok_cli.console import counted
from restok_cli.files import MAX_MEMBER_BYTES, expand_home
from restok_cli.machine import available_cores
from restok_cli.model.config import Config, HarConfig, TokenizerConfig, number_or_word, require
from restok_cli.model.levels import level_grid, level_sizes

MAX_AUTO_WORKERS = 16  # more than any GPU has yet asked for
CONFIG_FILE = "config.yaml"  # of a run, and of each of its checkpoints

Share = Annotated[float, Field(gt=0, le=1)]
Zoom = Annotated[float, Field(ge=1, le=100)]
FileName = Annotated[str, AfterValidator(expand_home)]


class DataConfig(Config):
    """How training images are changed before the model sees them; nothing of it changes codes that `prepare codes`
    made. Evaluation always takes the centre crop."""

    crop: Literal["random", "random-resized", "centre"] = "random"
    """Crop: any place of the image, which is resized to a random size before; a part of random size and
    shape, squeezed (torchvision's RandomResizedCrop); or the middle."""
    random_zoom: tuple[Zoom, Zoom] = (1.0, 1.25)
    """Of random: how much larger the image is made than the crop needs, at least and at most."""
    random_crop_area: tuple[Share, Share] = (0.8, 1.0)
    """Of random-resized: the smallest and the largest share of the image that is kept."""
    random_flip: bool = True
    """Mirror every second training image, at random."""
    num_workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Processes that decode images beside each one that trains. auto is one for each core that is left to it on a
    GPU, up to 16, and none on a CPU, where the model takes all cores."""
    broken_limit: float = Field(default=0.001, ge=0, le=1)
    """Share of the images that may turn out to be undecodable."""
    max_member_bytes: int = Field(default=MAX_MEMBER_BYTES, ge=1)
    """Image files of more bytes than this are not read, and count as undecodable."""

    @field_validator("num_workers", mode="before")
    @classmethod
    def _check_workers(cls, value: object) -> object:
        return number_or_word("num_workers", value, 0, "auto")

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("random_zoom", "random_crop_area"):
            low, high = getattr(self, name)
            require(low <= high, f"{name} = [{low}, {high}] is no range: the smaller one comes first")
        return self

    def loading(self, device_type: str) -> dict[str, Any]:
        """The section as arguments of `batches`, for a process that trains on such a device."""
        arguments = self.model_dump(exclude={"max_member_bytes"})  # which the data set knows
        if self.num_workers == "auto":
            processes = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)  # which torchrun leaves all cores of the machine
            left = available_cores() // processes - 1
            arguments["num_workers"] = 0 if device_type == "cpu" else min(max(left, 0), MAX_AUTO_WORKERS)
        return arguments


class OptimizerConfig(Config):
    """AdamW, with a learning rate that warms up linearly and then takes one of three shapes."""

    schedule: Literal["cosine", "constant", "wsd"] = "cosine"
    """The learning rate after the warm-up: a cosine down to final_learning_rate at max_steps; learning_rate to the
    end; or that (stable) until decay_steps before the end, then a straight line to final_learning_rate."""
    learning_rate: float = Field(default=1e-4, gt=0)
    """The highest; never scaled by batch size or number of processes."""
    final_learning_rate: float = Field(default=1e-5, ge=0)
    """Of the last step; not used by "constant"."""
    warmup_steps: int = Field(default=5000, ge=0)
    """Steps in which the learning rate rises from 0 in a straight line."""
    decay_steps: int | None = Field(default=None, ge=1)
    """Steps of the last part of "wsd", which needs it; not used by the others."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """AdamW's decay of the mean of gradients."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """AdamW's decay of the mean of their squares."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """AdamW's; not on norms, biases, embeddings and learned tokens."""
    max_grad_norm: float = Field(default=10.0, gt=0)
    """Gradients are scaled down to this norm over all weights."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        require(
            self.schedule == "constant" or self.final_learning_rate <= self.learning_rate,
            f"final_learning_rate = {self.final_learning_rate} is above learning_rate = {self.learning_rate}",
        )
        require(
            self.schedule != "wsd" or self.decay_steps is not None,
            "schedule = wsd needs decay_steps: how many of the last steps lower the learning rate",
        )
        return self


class HarOptimizerConfig(OptimizerConfig):
    """Settings with the generator's defaults."""

    weight_decay: float = Field(default=0.05, ge=0)
    """AdamW's; not on norms, biases, embeddings and learned tokens."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are scaled down to this norm over all weights."""


class ScheduleConfig(Config):
    """How long a run is and how often it does what. Units are optimizer steps."""

    max_steps: int = Field(default=1_000_000, ge=1)
    """Optimizer steps of the whole run."""
    batch_size: int = Field(default=256, ge=1)
    """Images per optimizer step, over all processes."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Images per forward pass and process; gradients are accumulated until batch_size is reached. null = batch_size
    / processes, as the run begins."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Decides everything random."""
    ema_decay: float = Field(default=0.9999, ge=0, lt=1)
    """Of the averaged weights, which are the model; reached by a warm-up: 0 for the first step, then
    min(ema_decay, (1 + step) / (10 + step))."""
    log_every: int = Field(default=50, ge=1)
    """Steps between two log lines."""
    preview_every: int = Field(default=5000, ge=1)
    """Steps between two preview images."""
    validate_every: int = Field(default=5000, ge=1)
    """Steps between two validations on the held-out images."""
    validation_images: Annotated[int, Field(ge=1)] | Literal["all"] = 5000
    """How many of the held-out images each validation takes, the first of their fixed order; all = all of them."""
    save_every: int = Field(default=5000, ge=1)
    """Steps between two checkpoints."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """How many of the last checkpoints are kept."""
    keep_every: int | None = Field(default=None, ge=1)
    """Checkpoints of multiples of this step are kept for good; null = of none."""
    early_stop: int | None = Field(default=None, ge=1)
    """The run ends after so many validations in a row without a better validation_psnr or validation_loss. model/ is
    then that of the best, whose checkpoint is kept; null = never, and model/ is that of the last step."""

    @field_validator("validation_images", mode="before")
    @classmethod
    def _check_validation_images(cls, value: object) -> object:
        return number_or_word("validation_images", value, 1, "all")

    @property
    def validation_limit(self) -> int | None:
        """`validation_images`, None for all."""
        return None if self.validation_images == "all" else self.validation_images

    @model_validator(mode="after")
    def _check(self) -> Self:
        require(
            self.micro_batch_size is None or self.batch_size % self.micro_batch_size == 0,
            f"batch_size = {self.batch_size} is not a multiple of micro_batch_size = {self.micro_batch_size}",
        )
        require(
            self.keep_every is None or self.keep_every % self.save_every == 0,
            f"keep_every = {self.keep_every} is not a multiple of save_every = {self.save_every}, "
            "and only checkpoints that were saved can be kept",
        )
        return self


class TokenizerScheduleConfig(ScheduleConfig):
    """How long a run is, how it begins, and how often it does what. Units are optimizer steps."""

    initial_convolutions: Literal["normal", "fan-in"] = "normal"
    """How convolutions start: from a truncated normal of 0.02, as released, or as PyTorch makes them, larger for fewer
    inputs: where cnn_channels are far fewer than 128, that learns faster."""


class HarScheduleConfig(ScheduleConfig):
    """Settings with the generator's defaults."""

    max_steps: int = Field(default=1_500_000, ge=1)
    """Optimizer steps of the whole run."""


class ComputeConfig(Config):
    """How a step is computed, not what: results differ by rounding alone."""

    precision: Literal["float32", "bf16", "fp16"] = "bf16"
    """Of the forward pass; weights and optimizer stay float32."""
    compile: Literal["auto", True, False] = False
    """Compile blocks and frozen networks by torch.compile, which takes minutes at the start; auto: on a GPU where the
    compiler works."""
    memory: Literal["auto", "fast", "balanced", "small"] = "auto"
    """Results kept for the backward pass. fast: all; balanced: products, attention and convolutions, and the rest is
    computed again; small: of blocks only what enters them; auto: balanced on a GPU, else fast."""

    deterministic: bool = False
    """On a GPU, only algorithms that give the same bits each time, which are slower; a CPU does so anyway."""

    @classmethod
    def with_present_keys(cls, values: dict) -> dict:
        """Once there was gradient_checkpointing, true for `small`."""
        former = values.get("gradient_checkpointing")
        if not isinstance(former, bool) or "memory" in values:  # then it is an unknown key
            return values
        others = {key: value for key, value in values.items() if key != "gradient_checkpointing"}
        return others | ({"memory": "small"} if former else {})

    def memory_on(self, device_type: str) -> Literal["fast", "balanced", "small"]:
        """`memory`, decided."""
        if self.memory != "auto":
            return self.memory
        return "balanced" if device_type == "cuda" else "fast"


class HarComputeConfig(ComputeConfig):
    """Settings of a generator, which has one optimizer and can be cut into shards."""

    sharding: Literal["none", "fsdp"] = "none"
    """fsdp: every process keeps only its part of weights and optimizer."""


class HealthConfig(Config):
    """When a run says that something is wrong with it, and when it stops by itself."""

    max_skipped_steps: int = Field(default=20, ge=0)
    """Steps in a row that may be skipped, for a loss or gradient that is not finite; one more ends the run."""
    warn_data_wait: float = Field(default=0.3, ge=0, le=1)
    """Share of the time spent waiting for images, above which the run warns; 1 = never."""


class TokenizerHealthConfig(HealthConfig):
    """Settings with the tokenizer's own trouble."""

    warn_codebook_usage: float = Field(default=0.1, ge=0, le=1)
    """Codewords in use as a share of those that as many evenly drawn codes would use, below which the run warns, of all
    codes and of each level, over as many images as it takes to tell; 0 = never."""


class TokenizerLossConfig(Config):
    """The terms of the tokenizer's loss and their weights."""

    reconstruction: Literal["l1", "l2"] = "l2"
    """Mean absolute or mean squared difference of pixels."""
    reconstruction_weight: float = Field(default=1.0, ge=0)
    """Weight of that difference."""
    quantizer_weight: float = Field(default=1.0, ge=0)
    """Weight of codebook loss + commitment loss."""
    entropy_weight: float = Field(default=0.0, ge=0)
    """Weight of sure single codes and an evenly used codebook; 0 = not computed."""
    perceptual_weight: float = Field(default=0.0, ge=0)
    """Weight of LPIPS; 0 = not computed, and its network is not needed."""
    lpips_weights: FileName | None = None
    """File with VGG-16 for LPIPS; null = torchvision's, downloaded once."""


class AlignmentConfig(Config):
    """A frozen vision model, the teacher, whose features those of the tokenizer are pulled towards (VF loss)."""

    encoder_weight: float = Field(default=0.0, ge=0)
    """Weight of the coarsest image tokens against the teacher's class token; 0 = not computed."""
    decoder_weight: float = Field(default=0.0, ge=0)
    """Weight of the decoder's second queries against the teacher's patches; 0 = not computed."""
    margin: float = Field(default=0.25, ge=0, lt=1)
    """Features whose cosine is above 1 − margin are left alone."""
    teacher: str = "vit_large_patch16_dinov3.lvd1689m"
    """The frozen model: any ViT of timm."""
    weights: FileName | None = None
    """File with the teacher's weights; null = timm's, downloaded once; random = for tests."""

    @property
    def is_used(self) -> bool:
        return self.encoder_weight > 0 or self.decoder_weight > 0


DINO = "vit_small_patch16_224.dino"  # timm's name of the discriminator's network


class DiscriminatorConfig(Config):
    """The adversary that learns to tell reconstructions from real images, and its own optimizer."""

    weight: float = Field(default=0.0, ge=0)
    """Weight of the adversarial term in the tokenizer's loss; 0 = no discriminator."""
    start_step: int = Field(default=20_000, ge=0)
    """The first step of the tokenizer in which it judges and is trained."""
    kind: Literal["dino", "patch"] = "dino"
    """Heads on the features of a frozen DINO ViT-S/16, or a PatchGAN."""
    weights: FileName | None = None
    """File with the DINO's weights; null = timm's, downloaded once; random = for tests."""
    augment_probability: float = Field(default=0.5, ge=0, le=1)
    """Probability of each of the colour, translation and cutout of DiffAugment, of kind dino; a patch discriminator
    sees images as they are."""
    augment_range: Literal["unit", "signed"] = "unit"
    """Pixel values that DiffAugment works on. unit, as released: images in [0, 1], so that up to 0.5 of brightness
    is added and what is uncovered is black; signed, as in the DiffAugment paper: images in [-1, 1], so that it is up
    to 0.25, and mid-grey."""
    lecam_weight: float = Field(default=0.001, ge=0)
    """Weight of what holds logits back to the moving mean of the other side's (LeCam)."""
    lecam_decay: float = Field(default=0.999, ge=0, lt=1)
    """Decay of those moving means."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Its steps are counted from start_step."""


class NestedDropoutConfig(Config):
    """Prefix dropout: some training images are decoded from their first codes alone."""

    probability: float = Field(default=0.2, ge=0, le=1)
    """Probability that an image keeps a shorter prefix than all its codes."""
    min_tokens: int = Field(default=4, ge=1)
    """Codes of the shortest prefix."""


class RevivalConfig(Config):
    """Codewords that no latent chose for a while move to a latent of the batch at hand."""

    every: int = Field(default=100, ge=1)
    """Steps between two revivals, over which use is counted."""
    until: int = Field(default=0, ge=0)
    """The last step that may revive; 0 = never."""


class TokenizerRunConfig(Config):
    """All that decides a run of `restok train-tokenizer`."""

    model: TokenizerConfig = TokenizerConfig()
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: TokenizerScheduleConfig = TokenizerScheduleConfig()
    loss: TokenizerLossConfig = TokenizerLossConfig()
    alignment: AlignmentConfig = AlignmentConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    nested_dropout: NestedDropoutConfig = NestedDropoutConfig()
    revival: RevivalConfig = RevivalConfig()
    compute: ComputeConfig = ComputeConfig()
    health: TokenizerHealthConfig = TokenizerHealthConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_lengths(self.schedule.max_steps, self.optimizer, "optimizer")
        if self.discriminator.weight > 0:
            steps = self.schedule.max_steps - self.discriminator.start_step
            _check_lengths(steps, self.discriminator.optimizer, "discriminator.optimizer")
        if self.compute.deterministic:
            self._check_pooling()
        if self.nested_dropout.probability > 0 and self.nested_dropout.min_tokens > self.model.num_latent_tokens // 2:
            raise ValueError(
                f"nested_dropout.min_tokens = {self.nested_dropout.min_tokens} leaves no shorter prefix of "
                f"num_latent_tokens = {self.model.num_latent_tokens}; lower it, or set probability = 0"
            )
        return self

    def _check_pooling(self) -> None:
        """Means over areas that overlap have no deterministic gradient on a GPU."""
        model, (rows, columns) = self.model, self.model.grid
        if model.latent_init == "flat":
            wanted = {model.num_latent_tokens: (1, model.num_latent_tokens)}
            rows, columns = 1, rows * columns
        else:
            wanted = {size: level_grid(size) for size in level_sizes(model.num_latent_tokens)}
        for size, (height, width) in wanted.items():
            require(
                rows % height == 0 and columns % width == 0,
                f"compute.deterministic: the level of {size} codes has {height}x{width} places, which do not divide "
                f"the image tokens, whose grid is {rows}x{columns}; take another image size, or leave it false",
            )


class HarRunConfig(Config):
    """All that decides a run of `restok train-har`, beside its tokenizer and data set."""

    model: HarConfig = HarConfig()
    data: DataConfig = DataConfig()
    optimizer: HarOptimizerConfig = HarOptimizerConfig()
    schedule: HarScheduleConfig = HarScheduleConfig()
    compute: HarComputeConfig = HarComputeConfig()
    health: HealthConfig = HealthConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_lengths(self.schedule.max_steps, self.optimizer, "optimizer")
        require(
            not (self.compute.sharding == "fsdp" and self.compute.precision == "fp16"),
            "compute.sharding = fsdp with compute.precision = fp16: processes would scale their shards differently; "
            "take bf16",
        )
        return self


def _check_lengths(num_steps: int, optimizer: OptimizerConfig, name: str) -> None:
    if optimizer.schedule == "wsd" and optimizer.decay_steps is not None:  # as it is bound to be
        require(
            optimizer.warmup_steps + optimizer.decay_steps <= num_steps,
            f"{name}.warmup_steps = {optimizer.warmup_steps} and {name}.decay_steps = {optimizer.decay_steps} do not "
            f"fit into its {counted(num_steps, 'step')}",
        )


RunKind = Literal["tokenizer", "har"]
RunConfig = TokenizerRunConfig | HarRunConfig
RUN_CONFIGS: dict[RunKind, type[RunConfig]] = {"tokenizer": TokenizerRunConfig, "har": HarRunConfig}
