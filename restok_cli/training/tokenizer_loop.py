"""Training a tokenizer (paper section 4.1, ALGORITHM section 2)."""

from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor

from restok_cli.console import Progress
from restok_cli.data.images import make_grid, save_image, to_float, to_uint8
from restok_cli.data.loader import batches, evaluation_batches
from restok_cli.data.shards import Dataset
from restok_cli.files import whole_file
from restok_cli.metrics.codebook import use_of_counts
from restok_cli.metrics.pixels import psnr
from restok_cli.model.checkpoint import save_tokenizer
from restok_cli.model.levels import prefix_lengths
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.training.codebook import count_codes, draw_prefix_lengths, prefix_distribution, revive
from restok_cli.training.config import TokenizerRunConfig
from restok_cli.training.losses import tokenizer_losses
from restok_cli.training.optim import learning_rate, make_optimizer, seed_step, set_learning_rate, update_ema
from restok_cli.training.run import RunFolder, Window, announce, check_same, interrupted, stop_signals


def train_tokenizer(config: TokenizerRunConfig, data: Dataset, run: RunFolder, device: torch.device) -> Path:
    """Train, from the run's last checkpoint if it has one, and return the folder of the model.

    Every step is a function of the state before it, the seed and the step's number, so a resumed run equals one that
    was never interrupted: bit for bit on a CPU, up to its own rounding on a GPU. Raises Interrupted after Ctrl-C or
    SIGTERM, once the state is saved.
    """
    schedule = config.schedule
    torch.manual_seed(schedule.seed)
    model = Tokenizer(config.model).to(device).train()
    ema = deepcopy(model).requires_grad_(False).eval()
    optimizer = make_optimizer(model, config.optimizer)
    counts = torch.zeros(config.model.codebook_size, dtype=torch.int64, device=device)  # since the last revival
    window, first_step = Window(), 0
    if state := run.load():
        check_same("data set", state["data_fingerprint"], data.fingerprint)
        model.load_state_dict(state["model"])
        ema.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        counts.copy_(state["code_counts"])
        window.load_state_dict(state["window"])
        first_step = state["step"]

    distribution = prefix_distribution(
        config.model.num_latent_tokens, config.nested_dropout.probability, config.nested_dropout.min_tokens
    )
    batch_iterator = batches(
        data.split("train"),
        image_size=config.model.image_size,
        batch_size=schedule.batch_size,
        seed=schedule.seed,
        first_step=first_step,
        **config.data.model_dump(exclude={"broken_limit"}),
    )
    with stop_signals() as stop, Progress("train-tokenizer", schedule.max_steps, "steps", first_step) as progress:
        for step in range(first_step, schedule.max_steps):
            window.start_step()
            seed_step(schedule.seed, step)
            rate = learning_rate(step, schedule.max_steps, config.optimizer)
            set_learning_rate(optimizer, rate)
            images = to_float(next(batch_iterator).images.to(device, non_blocking=True))
            kept = draw_prefix_lengths(len(images), distribution, device)

            result = model(images, kept)
            losses = tokenizer_losses(result, images, model.quantizer, config.loss)
            optimizer.zero_grad(set_to_none=True)
            losses["loss"].backward()
            grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.max_grad_norm)
            optimizer.step()
            update_ema(ema, model, step, schedule.ema_decay)

            done, last, stopping = step + 1, step + 1 == schedule.max_steps, bool(stop)
            if done <= config.revival.until:
                counts += count_codes(result.quantized.codes, len(counts))
                if done % config.revival.every == 0:
                    revive(model.quantizer, counts, result.latents)
                    counts.zero_()
            window.add(len(images), **losses, grad_norm=grad_norm, batch_usage=batch_usage(result.quantized.codes))
            progress.advance()
            if done % schedule.log_every == 0 or last:
                numbers = window.close() | {"learning_rate": rate}
                run.log(done, numbers)
                progress.show(reconstruction_loss=numbers["reconstruction_loss"])
            if done % schedule.validate_every == 0 or last:
                numbers = validate(ema, data, schedule.batch_size, device)
                run.log(done, numbers)
                announce(done, numbers)
            if done % schedule.preview_every == 0 or last:
                save_preview(ema, data, run.preview_file(done), device)
            if done % schedule.save_every == 0 or last or stopping:
                save_tokenizer(ema, run.model_folder)  # before the checkpoint, which says that all of it is done
                state = {"model": model.state_dict(), "ema": ema.state_dict(), "optimizer": optimizer.state_dict()}
                state |= {"code_counts": counts, "window": window.state_dict(), "data_fingerprint": data.fingerprint}
                run.save(done, state, schedule.keep_checkpoints)
            if stopping and not last:
                raise interrupted(stop[0], done, run.path)
    return run.model_folder


def batch_usage(codes: Tensor) -> Tensor:
    """Share of a batch's codes (B, L) that differ from all others: near 0 when the codebook collapses."""
    ordered = codes.flatten().sort().values
    return (1 + (ordered[1:] != ordered[:-1]).sum()) / codes.numel()


@torch.inference_mode()
def validate(tokenizer: Tokenizer, data: Dataset, batch_size: int, device: torch.device) -> dict[str, float]:
    """Mean PSNR in dB over the validation split, and use of the codebook."""
    config = tokenizer.config
    values, counts = [], torch.zeros(config.codebook_size, dtype=torch.int64, device=device)
    for batch in evaluation_batches(data.held_out, image_size=config.image_size, batch_size=batch_size):
        images = batch.images.to(device)
        codes = tokenizer.encode(to_float(images))
        counts += count_codes(codes, len(counts))
        values.append(psnr(to_uint8(tokenizer.decode(codes)), images))
    use = use_of_counts(counts.cpu().numpy())
    return {
        "validation_psnr": torch.cat(values).mean().item(),
        "validation_codebook_usage": use.usage,
        "validation_codebook_perplexity": use.perplexity,
    }


@torch.inference_mode()
def save_preview(tokenizer: Tokenizer, data: Dataset, path: Path, device: torch.device) -> None:
    """A grid: a row per held-out picture, the original first, then its reconstruction from ever more codes."""
    config, rows = tokenizer.config, 8
    images = next(evaluation_batches(data.held_out, image_size=config.image_size, batch_size=rows)).images
    codes = tokenizer.encode(to_float(images.to(device)))
    lengths = [n for n in prefix_lengths(config.num_latent_tokens) if n >= 4 or n == config.num_latent_tokens]
    columns = [images, *(to_uint8(tokenizer.decode(codes[:, :n])).cpu() for n in lengths)]
    captions = ["original", *(f"{n} tokens" for n in lengths)] * len(images)
    with whole_file(path) as temporary:
        save_image(make_grid(torch.stack(columns, 1).flatten(0, 1), len(columns), captions), temporary)
