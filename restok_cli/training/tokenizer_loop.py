"""Training a tokenizer (paper section 4.1, docs/algorithm.md section 2)."""

from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from itertools import islice
from pathlib import Path

import torch

from restok_cli.console import counted
from restok_cli.cuda.compiler import compile_model, is_wanted
from restok_cli.data.images import decode_pixels, to_float, write_sheet
from restok_cli.data.loading.loader import Batch, batches, evaluation_batches
from restok_cli.data.shards.dataset import Dataset
from restok_cli.devices import to_device
from restok_cli.metrics.formulas.codebook import use_of_counts
from restok_cli.metrics.formulas.pixels import psnr
from restok_cli.model.levels import prefix_lengths
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained.modules import save_tokenizer
from restok_cli.processes import rank, world_size
from restok_cli.settings.training import TokenizerRunConfig
from restok_cli.training.adversarial.adversary import Adversary
from restok_cli.training.codebook_use import (
    CodeCounts,
    UseOfPossible,
    draw_prefix_lengths,
    prefix_distribution,
    revive_everywhere,
    use_numbers,
)
from restok_cli.training.compiling import compile_discriminator, compile_losses
from restok_cli.training.frozen import take_dtype, weights_fingerprint
from restok_cli.training.loop import State, Trainee, run_loop, shown
from restok_cli.training.losses import NUM_NOISE, TokenizerLosses
from restok_cli.training.monitor import mean_of
from restok_cli.training.optim import seed_step, update_ema
from restok_cli.training.parallel import deal_from, gather_in_turn, micro_batch_numbers, sync_gradients, wrap_ddp
from restok_cli.training.recomputing import Memory, recompute_activations
from restok_cli.training.run_folder.run import RunFolder
from restok_cli.training.stopping import Arriving
from restok_cli.training.update import DTYPES, Precision, autocast
from restok_cli.training.warm_start import reset_convolutions, take_weights

DATA_REMEDY = "raise data.num_workers (the result stays the same), or prepare the data set with --resize"


class TokenizerState(State):
    """All that changes while a tokenizer trains, beside it the discriminator."""

    def __init__(self, config: TokenizerRunConfig, device: torch.device, init: Tokenizer | None):
        codes = config.model.num_latent_tokens, config.model.codebook_size
        torch.manual_seed(config.schedule.seed)
        self.tokenizer = Tokenizer(config.model)
        if config.schedule.initial_convolutions == "fan-in":
            reset_convolutions(self.tokenizer)
        self.tokenizer.to(device).train()
        if init is not None:
            take_weights(self.tokenizer, init)
        self.ema = deepcopy(self.tokenizer).requires_grad_(False).eval()
        super().__init__("tokenizer", self.tokenizer, self.ema, config, device)
        self.code_counts = CodeCounts(*codes, device)  # since the last log line
        self.unrevived_counts = CodeCounts(*codes, device)  # since the last revival
        self.parts |= {"code_counts": self.code_counts, "unrevived_counts": self.unrevived_counts}
        self.adversary = Adversary(config, device) if config.discriminator.weight > 0 else None
        if self.adversary:
            self.parts["adversary"] = self.adversary
            self.updates["discriminator"] = self.adversary.update


def train_tokenizer(
    config: TokenizerRunConfig,
    run: RunFolder,
    data: Dataset,
    losses: TokenizerLosses,
    device: torch.device,
    *,
    init: Tokenizer | None = None,
    stop_at: int | None = None,
    validation_batches: int | None = None,
) -> Path:
    """Train, from the run's last checkpoint if it has one, and return the folder of the model.

    Every step is a function of the state before it, the seed and the step's number, so a resumed run equals one that
    was never interrupted: bit for bit on a CPU, up to rounding on a GPU or in another number of processes. `init`
    gives the first weights, `stop_at` ends it after that step as an interruption would, `validation_batches` shortens
    validation.

    Raises Interrupted after Ctrl-C or SIGTERM, once the state is saved.
    """
    schedule = config.schedule
    state = TokenizerState(config, device, init)
    sources = {"data set": data.fingerprint, **losses.fingerprints}
    if state.adversary and state.adversary.frozen:
        sources["network of discriminator.weights"] = weights_fingerprint(state.adversary.frozen)
    first_step = run.resume(state, device, sources, stop_at)
    make_fast(state, losses, config)
    in_training = wrap_ddp(state.tokenizer)
    size, _ = micro_batch_numbers(schedule.batch_size, schedule.micro_batch_size)
    split, deal = data.split("train"), deal_from(first_step, schedule)
    batch_iterator = batches(split, config.model.image_size, deal, **config.data.loading(device.type))
    use = UseOfPossible(config.model.num_latent_tokens, config.model.codebook_size, split.known_length)

    def numbers(done: int) -> tuple[dict[str, float], dict[int, float]]:
        counts = state.code_counts.close()
        shares = use.add(counts)
        # while revival mends the use, a warning would advise what is already done
        return state.meter.close() | use_numbers(counts), shares if done > config.revival.until else {}

    trainee = Trainee(
        command="train-tokenizer",
        shown=("reconstruction", "reconstruction_loss"),
        data_remedy=DATA_REMEDY,
        state=state,
        step=lambda step, arriving: train_step(step, config, state, in_training, losses, arriving),
        numbers=numbers,
        validate=partial(validate, state.ema, data, size, device, schedule.validation_limit, validation_batches),
        preview=partial(save_preview, state.ema, data, device),
        write_model=lambda done, _: save_tokenizer(state.ema, run.model_folder, run.describe(done, data)),
    )
    return run_loop(trainee, config, run, batch_iterator, first_step, stop_at)


def make_fast(state: TokenizerState, losses: TokenizerLosses, config: TokenizerRunConfig) -> None:
    """Let a step keep what `compute.memory` says, and compile what it runs where that is wanted."""
    compute, device = config.compute, state.device
    compiled = is_wanted(compute.compile, device, "compute.compile=false")
    spare(state, losses, compute.memory_on(device.type), compute.precision, compiled)
    if compiled:
        compile_model(state.tokenizer)
        compile_losses(losses)
        if state.adversary:
            compile_discriminator(state.adversary.network)


def spare(
    state: TokenizerState, losses: TokenizerLosses, memory: Memory, precision: Precision, compiled: bool = False
) -> None:
    """Let a step keep what `memory` says, and copy no frozen weights, before anything is to be `compiled`."""
    for model in filter(None, (state.tokenizer, losses.lpips)):
        recompute_activations(model, memory, compiled)
    teacher, judge = losses.teacher and losses.teacher.network, state.adversary and state.adversary.frozen
    for network in filter(None, (losses.lpips, teacher, judge)):
        take_dtype(network, DTYPES[precision])


def train_step(
    step: int,
    config: TokenizerRunConfig,
    state: TokenizerState,
    in_training: torch.nn.Module,
    losses: TokenizerLosses,
    batch_iterator: Iterator[Batch],
) -> None:
    """One step of the tokenizer, then one of its discriminator. `in_training` is what stands for it in all processes.

    What is random is drawn for the images of the whole step, of which this process takes its own.
    """
    schedule, device = config.schedule, state.device
    size, my_numbers = micro_batch_numbers(schedule.batch_size, schedule.micro_batch_size)
    adversary = state.adversary if step >= config.discriminator.start_step else None
    seed_step(schedule.seed, step)
    distribution = prefix_distribution(
        config.model.num_latent_tokens, config.nested_dropout.probability, config.nested_dropout.min_tokens
    )
    kept = draw_prefix_lengths(schedule.batch_size, distribution)
    noise = torch.rand(schedule.batch_size, NUM_NOISE)

    terms, games, codes, first_latents = [], [], [], None
    for number in my_numbers:
        mine = slice(number * size, (number + 1) * size)
        with state.meter.waiting():
            images = next(batch_iterator).images
        images = to_float(to_device(images, device))
        with sync_gradients(in_training, number == my_numbers[-1]):
            with autocast(device, config.compute.precision):
                result = in_training(images, kept[mine].to(device, non_blocking=True), losses.teacher is not None)
                judge = adversary.network if adversary else None
                term = losses(result, images, state.tokenizer.quantizer, noise[mine], judge)
            state.update.backward(term["loss"] / len(my_numbers))
        terms.append(term)
        if adversary:
            games.append((images, result.images.detach(), noise[mine]))
        if first_latents is None:
            first_latents = result.latents.detach()
        codes.append(result.quantized.codes)
    # up to here nothing has changed that is saved, so that a run may stop while it waits for images
    for counts in (state.code_counts, state.unrevived_counts):
        counts.add(torch.cat(codes))
    grad_norm, moved = state.update.step(step)
    update_ema(state.ema, state.tokenizer, step, config.schedule.ema_decay)
    state.meter.add(mean_of(terms) | {"grad_norm": grad_norm}, moved)
    if adversary:
        state.meter.add(*adversary.learn(step, games))
    if first_latents is not None and step < config.revival.until and (step + 1) % config.revival.every == 0:
        revive_everywhere(state.tokenizer.quantizer, state.unrevived_counts, first_latents)


@torch.inference_mode()
def validate(
    tokenizer: Tokenizer,
    data: Dataset,
    batch_size: int,
    device: torch.device,
    limit: int | None,
    max_batches: int | None,
    arriving: Arriving,
) -> dict[str, float]:
    """Mean PSNR in dB over the validation split, or its first `limit` images, and use of the codebook.

    The batches are dealt out to all processes.
    """
    config = tokenizer.config
    values, counts = [], CodeCounts(config.num_latent_tokens, config.codebook_size, device)
    my_batches = evaluation_batches(
        data.held_out,
        image_size=config.image_size,
        batch_size=batch_size,
        rank=rank(),
        world_size=world_size(),
        limit=limit,
    )
    for batch in islice(arriving(my_batches), max_batches):
        images = batch.images.to(device)
        codes = tokenizer.encode(to_float(images))
        counts.add(codes)
        pixels = decode_pixels(tokenizer.decode, codes)
        values.append(psnr(pixels.images, images).masked_fill(~pixels.finite, torch.nan).cpu())
    use = use_of_counts(counts.close().sum(0))
    return {
        "validation_psnr": torch.cat(gather_in_turn(values)).mean().item(),
        "validation_codebook_usage": use.usage,
        "validation_codebook_perplexity": use.perplexity,
    }


@torch.inference_mode()
def save_preview(tokenizer: Tokenizer, data: Dataset, device: torch.device, path: Path, arriving: Arriving) -> None:
    """A grid: a row per held-out image, the original first, then its reconstruction from ever more codes."""
    if rank() > 0:
        return
    config, rows = tokenizer.config, 8
    images = next(arriving(evaluation_batches(data.held_out, image_size=config.image_size, batch_size=rows))).images
    codes = tokenizer.encode(to_float(images.to(device)))
    lengths = [n for n in prefix_lengths(config.num_latent_tokens) if n >= 4 or n == config.num_latent_tokens]
    columns = [images, *shown(path, *(decode_pixels(tokenizer.decode, codes[:, :n]) for n in lengths))]
    captions = ["original", *(counted(n, "code") for n in lengths)] * len(images)
    write_sheet(path, torch.stack(columns, 1).flatten(0, 1), len(columns), captions)
