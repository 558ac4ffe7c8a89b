"""Training a HAR or AR generator on the codes of a frozen tokenizer (paper section 4.2, ALGORITHM section 3)."""

from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from restok_cli.console import Progress
from restok_cli.data.images import make_grid, save_image, to_float, to_uint8
from restok_cli.data.loader import batches, evaluation_batches
from restok_cli.data.shards import Dataset
from restok_cli.files import whole_file, whole_folder
from restok_cli.model.checkpoint import (
    ModelFolder,
    copy_model,
    fingerprint,
    load_tokenizer,
    open_tokenizer,
    save_har,
)
from restok_cli.model.har import Har
from restok_cli.model.sampling import SamplingOptions, sample, seeded_uniforms
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.training.config import HarRunConfig
from restok_cli.training.optim import learning_rate, make_optimizer, seed_step, set_learning_rate, update_ema
from restok_cli.training.run import RunFolder, Window, announce, check_same, interrupted, stop_signals


def train_har(
    config: HarRunConfig, data: Dataset, tokenizer_folder: ModelFolder, run: RunFolder, device: torch.device
) -> Path:
    """Train, from the run's last checkpoint if it has one, and return the folder of the model.

    Pictures are encoded on the fly by the tokenizer in `tokenizer_folder`, of which the run keeps a copy. Exact on
    resume as the tokenizer's loop is.
    """
    schedule = config.schedule
    tokenizer_folder = keep_tokenizer(tokenizer_folder, run)
    tokenizer = load_tokenizer(run.tokenizer_folder, device).requires_grad_(False)
    torch.manual_seed(schedule.seed)
    model = Har(config.model).to(device).train()
    ema = deepcopy(model).requires_grad_(False).eval()
    optimizer = make_optimizer(model, config.optimizer)
    window, first_step = Window(), 0
    if state := run.load():
        check_same("data set", state["data_fingerprint"], data.fingerprint)
        model.load_state_dict(state["model"])
        ema.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        window.load_state_dict(state["window"])
        first_step = state["step"]

    batch_iterator = batches(
        data.split("train"),
        image_size=tokenizer.config.image_size,
        batch_size=schedule.batch_size,
        seed=schedule.seed,
        first_step=first_step,
        **config.data.model_dump(exclude={"broken_limit"}),
    )
    with stop_signals() as stop, Progress("train-har", schedule.max_steps, "steps", first_step) as progress:
        for step in range(first_step, schedule.max_steps):
            window.start_step()
            seed_step(schedule.seed, step)
            rate = learning_rate(step, schedule.max_steps, config.optimizer)
            set_learning_rate(optimizer, rate)
            batch = next(batch_iterator)
            with torch.no_grad():
                codes = tokenizer.encode(to_float(batch.images.to(device, non_blocking=True)))
            class_ids = model_classes(batch.class_ids.to(device, non_blocking=True), config.model.num_classes)
            hidden = torch.rand(len(class_ids)).to(device) < config.model.class_dropout
            class_ids = torch.where(hidden, model.null_class, class_ids)

            loss = cross_entropy(model(class_ids, codes), codes)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.max_grad_norm)
            optimizer.step()
            update_ema(ema, model, step, schedule.ema_decay)

            done, last, stopping = step + 1, step + 1 == schedule.max_steps, bool(stop)
            window.add(len(codes), loss=loss, grad_norm=grad_norm)
            progress.advance()
            if done % schedule.log_every == 0 or last:
                numbers = window.close() | {"learning_rate": rate}
                run.log(done, numbers)
                progress.show(loss=numbers["loss"])
            if done % schedule.validate_every == 0 or last:
                numbers = validate(ema, tokenizer, data, schedule.batch_size, device)
                run.log(done, numbers)
                announce(done, numbers)
            if done % schedule.preview_every == 0 or last:
                save_preview(ema, tokenizer, data, run.preview_file(done), device)
            if done % schedule.save_every == 0 or last or stopping:
                save_har(ema, tokenizer_folder, data.class_names, run.model_folder)  # before the checkpoint, as there
                state = {"model": model.state_dict(), "ema": ema.state_dict(), "optimizer": optimizer.state_dict()}
                state |= {"window": window.state_dict(), "data_fingerprint": data.fingerprint}
                run.save(done, state, schedule.keep_checkpoints)
            if stopping and not last:
                raise interrupted(stop[0], done, run.path)
    return run.model_folder


def keep_tokenizer(given: ModelFolder, run: RunFolder) -> ModelFolder:
    """The run's own copy of its tokenizer, made when the run starts.

    Raises UsageError where the run resumes with another one.
    """
    if run.tokenizer_folder.exists():
        check_same("tokenizer", fingerprint(open_tokenizer(run.tokenizer_folder)), fingerprint(given))
    else:
        with whole_folder(run.tokenizer_folder) as temporary:
            copy_model(given, temporary)
    return open_tokenizer(run.tokenizer_folder)


def cross_entropy(logits: Tensor, codes: Tensor) -> Tensor:
    """Mean over all positions: logits (B, L, V), codes (B, L)."""
    return F.cross_entropy(logits.flatten(0, 1).float(), codes.flatten())


def model_classes(class_ids: Tensor, num_classes: int) -> Tensor:
    """Class ids as the model takes them: all the null class where it is unconditional."""
    return class_ids if num_classes else torch.zeros_like(class_ids)


@torch.inference_mode()
def validate(har: Har, tokenizer: Tokenizer, data: Dataset, batch_size: int, device: torch.device) -> dict[str, float]:
    """Cross-entropy per code, in nats, on the validation split."""
    total, count = 0.0, 0
    size = tokenizer.config.image_size
    for batch in evaluation_batches(data.held_out, image_size=size, batch_size=batch_size):
        codes = tokenizer.encode(to_float(batch.images.to(device)))
        class_ids = model_classes(batch.class_ids.to(device), har.config.num_classes)
        total += cross_entropy(har(class_ids, codes), codes).item() * len(codes)
        count += len(codes)
    return {"validation_loss": total / count}


@torch.inference_mode()
def save_preview(har: Har, tokenizer: Tokenizer, data: Dataset, path: Path, device: torch.device) -> None:
    """A grid of 16 generated pictures of classes spread over all, always with the same random numbers."""
    count, num_classes = 16, har.config.num_classes
    class_ids = torch.arange(count) * max(num_classes, 1) // count % max(num_classes, 1)
    uniforms = seeded_uniforms(0, 0, count, har.config.num_codes)
    codes = sample(har, class_ids.to(device), uniforms.to(device), SamplingOptions())
    captions = [data.class_names[i] for i in class_ids] if num_classes else None
    with whole_file(path) as temporary:
        save_image(make_grid(to_uint8(tokenizer.decode(codes)).cpu(), 4, captions), temporary)
