"""Training a HAR or AR generator on codes of a frozen tokenizer (paper section 4.2, docs/algorithm.md section 3)."""

from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restok_cli.console import note
from restok_cli.cuda.compiler import compile_model, is_wanted
from restok_cli.data.images import decode_pixels, write_sheet
from restok_cli.files import whole_folder
from restok_cli.model.config import HarConfig
from restok_cli.model.har import Har
from restok_cli.model.levels import level_sizes
from restok_cli.model.sampling import SamplingOptions, sample, seeded_uniforms
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained.folder import TokenizerFolder, copy_model, fingerprint, open_tokenizer
from restok_cli.pretrained.modules import empty_model, save_har
from restok_cli.processes import barrier, rank, world_size
from restok_cli.settings.training import HarRunConfig
from restok_cli.training import parallel
from restok_cli.training.code_source import Coded, CodeSource
from restok_cli.training.loop import State, Trainee, run_loop, shown
from restok_cli.training.monitor import mean_of
from restok_cli.training.optim import seed_step, update_ema
from restok_cli.training.recomputing import recompute_activations
from restok_cli.training.run_folder.run import RunFolder, check_same
from restok_cli.training.stopping import Arriving
from restok_cli.training.update import autocast
from restok_cli.training.warm_start import take_weights


class HarState(State):
    """All that changes while a generator trains, whole or in shards."""

    def __init__(self, config: HarRunConfig, device: torch.device, init: Har | None):
        torch.manual_seed(config.schedule.seed)
        self.har = Har(config.model).to(device).train()
        if init is not None:
            take_weights(self.har, init)
        self.ema = deepcopy(self.har).requires_grad_(False).eval()
        if config.compute.sharding == "fsdp" and world_size() == 1:
            note("compute.sharding = fsdp shares nothing out: this run has one process; give --num-processes 2 or more")
        elif config.compute.sharding == "fsdp":
            parallel.shard_trained(self.har)
            parallel.shard(self.ema, self.ema.blocks, methods=("step",))
        super().__init__("generator", self.har, self.ema, config, device)


def train_har(
    config: HarRunConfig,
    run: RunFolder,
    source: CodeSource,
    tokenizer_folder: TokenizerFolder,
    tokenizer: Tokenizer,
    device: torch.device,
    *,
    init: Har | None = None,
    stop_at: int | None = None,
    validation_batches: int | None = None,
) -> Path:
    """Train, from the run's last checkpoint if it has one, and return the folder of the model.

    `tokenizer`, loaded from `tokenizer_folder`, made the codes of `source` and decodes the previews; the run keeps a
    copy of it. Exact on resume, and with the same options, as the tokenizer's loop.
    """
    schedule = config.schedule
    tokenizer_folder = keep_tokenizer(tokenizer_folder, run)
    state = HarState(config, device, init)
    sources = {"data set": source.fingerprint, "tokenizer": fingerprint(tokenizer_folder)}
    first_step = run.resume(state, device, sources, stop_at)
    compiled = is_wanted(config.compute.compile, device, "compute.compile=false")
    recompute_activations(state.har, config.compute.memory_on(device.type), compiled)
    if compiled:
        compile_model(state.har)
    in_training = state.har if parallel.is_sharded(state.har) else parallel.wrap_ddp(state.har)
    size, _ = parallel.micro_batch_numbers(schedule.batch_size, schedule.micro_batch_size)
    batch_iterator = source.training(config, first_step)

    def write_model(done: int, saved: dict[str, Any]) -> None:
        model = put_together(state.ema, saved["ema"])
        save_har(model, tokenizer_folder, source.class_names, run.model_folder, run.describe(done, source))

    trainee = Trainee(
        command="train-har",
        shown=("loss", "loss"),
        data_remedy=source.remedy,
        state=state,
        step=lambda step, arriving: train_step(step, config, state, in_training, arriving),
        numbers=lambda _: (state.meter.close(), {}),
        validate=partial(validate, state.ema, source, size, schedule.validation_limit, validation_batches),
        preview=partial(save_preview, state.ema, tokenizer, source, device),
        write_model=write_model,
    )
    return run_loop(trainee, config, run, batch_iterator, first_step, stop_at)


def train_step(
    step: int, config: HarRunConfig, state: HarState, in_training: nn.Module, batch_iterator: Iterator[Coded]
) -> None:
    """One step of the generator. `in_training` is what stands for it in all processes."""
    schedule = config.schedule
    size, my_numbers = parallel.micro_batch_numbers(schedule.batch_size, schedule.micro_batch_size)
    seed_step(schedule.seed, step)
    uniforms = torch.rand(schedule.batch_size)  # of the whole step, as all processes see it
    terms = []
    for number in my_numbers:
        with state.meter.waiting():
            class_ids, codes = next(batch_iterator)
        mine = uniforms[number * size : (number + 1) * size].to(state.device, non_blocking=True)
        class_ids = state.har.class_embedding.drop(model_classes(class_ids, config.model), mine)
        seed_step(schedule.seed, step, number)  # dropout inside the model
        with parallel.sync_gradients(in_training, number == my_numbers[-1]):
            with autocast(state.device, config.compute.precision):
                logits = in_training(class_ids, codes)
            loss = cross_entropy(logits, codes).mean()
            state.update.backward(loss / len(my_numbers))
        terms.append({"loss": loss})
    grad_norm, moved = state.update.step(step)
    update_ema(state.ema, state.har, step, schedule.ema_decay)
    state.meter.add(mean_of(terms) | {"grad_norm": grad_norm}, moved)


def put_together(har: Har, whole: dict[str, Tensor]) -> Har:
    """The model, or where this process holds only its shards, one made of its whole state."""
    if not parallel.is_sharded(har):
        return har
    together = empty_model(har.config)
    together.load_state_dict(whole, assign=True)
    return together


def keep_tokenizer(given: TokenizerFolder, run: RunFolder) -> TokenizerFolder:
    """The run's own copy of its tokenizer, made by the first process when the run starts.

    Raises UsageError where the run resumes with another one.
    """
    if rank() == 0 and run.tokenizer_folder.exists():
        check_same("tokenizer", fingerprint(open_tokenizer(run.tokenizer_folder)), fingerprint(given))
    elif rank() == 0:
        with whole_folder(run.tokenizer_folder) as temporary:
            copy_model(given, temporary)
    barrier()  # only now may the others look: the first may have had to clear the folder of an older run
    return open_tokenizer(run.tokenizer_folder)


def cross_entropy(logits: Tensor, codes: Tensor) -> Tensor:
    """Of each code, in nats: logits (B, L, V), codes (B, L) -> (B, L), float32."""
    return F.cross_entropy(logits.flatten(0, 1).float(), codes.flatten(), reduction="none").view(codes.shape)


def model_classes(class_ids: Tensor, config: HarConfig) -> Tensor:
    """Class ids as the model takes them: all the null class where it is unconditional."""
    return class_ids if config.num_classes else torch.zeros_like(class_ids)


@torch.inference_mode()
def validate(
    har: Har, source: CodeSource, batch_size: int, limit: int | None, max_batches: int | None, arriving: Arriving
) -> dict[str, float]:
    """Cross-entropy per code, in nats, on the validation split or its first `limit` images, in all and by level.

    The batches are dealt out to all processes. Of a model in shards, all must run each: then all take all batches.
    """
    deal = (0, 1) if parallel.is_sharded(har) else (rank(), world_size())
    sums = []  # of each batch: (L,) sums over its images, and how many they are
    for class_ids, codes in islice(arriving(source.evaluation(batch_size, deal, limit)), max_batches):
        losses = cross_entropy(har(model_classes(class_ids, har.config), codes), codes)
        sums.append((losses.double().sum(0).cpu(), len(codes)))
    parallel.reshard(har)
    sums = sums if parallel.is_sharded(har) else parallel.gather_in_turn(sums)
    by_position = torch.stack([value for value, _ in sums]).sum(0) / sum(n for _, n in sums)
    levels = by_position.split(level_sizes(len(by_position)))
    by_level = {f"validation_loss_level_{i}": level.mean().item() for i, level in enumerate(levels, start=1)}
    return {"validation_loss": by_position.mean().item(), **by_level}


@torch.inference_mode()
def save_preview(
    har: Har, tokenizer: Tokenizer, source: CodeSource, device: torch.device, path: Path, _: Arriving
) -> None:
    """A grid of drawn images, of classes spread over all there are. Always the same random numbers."""
    if rank() > 0 and not parallel.is_sharded(har):
        return
    count = 16
    class_ids = [i * har.config.num_classes // count for i in range(count)]  # 0, the null class, if it has none
    uniforms = seeded_uniforms(0, 0, count, har.config.num_codes).to(device)
    codes = sample(har, torch.tensor(class_ids, device=device), uniforms, SamplingOptions())
    parallel.reshard(har)
    if rank() > 0:  # which a model in shards needed for the codes, but not for the image
        return
    (images,) = shown(path, decode_pixels(tokenizer.decode, codes))
    captions = [source.class_names[i] for i in class_ids] if source.class_names else None
    write_sheet(path, images, 8, captions)
