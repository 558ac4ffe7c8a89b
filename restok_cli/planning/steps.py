"""The real steps of both training loops, and the passes of drawing and coding, on tensors without numbers.

Each function returns a Counter of what one of them takes on one device. `gpu` counts by the rules of CUDA.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from restok_cli.data.loading.loader import Batch
from restok_cli.metrics.networks.lpips import Lpips
from restok_cli.model.config import HarConfig, TokenizerConfig
from restok_cli.model.har import Har
from restok_cli.model.sampling import SamplingOptions, sample
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.planning.counting import AVERAGE, FROZEN, JUDGE, OPTIMIZER, WEIGHTS, Counter, WithoutNumbers, building
from restok_cli.planning.cuda_rules import cuda_rules
from restok_cli.settings.training import HarRunConfig, TokenizerRunConfig
from restok_cli.training import har_loop, tokenizer_loop
from restok_cli.training.code_source import Coded
from restok_cli.training.frozen import RANDOM
from restok_cli.training.losses import TokenizerLosses
from restok_cli.training.parallel import micro_batch_numbers
from restok_cli.training.teachers import open_teacher
from restok_cli.training.update import DTYPES, Update
from restok_cli.training.warm_start import Memory, recompute_activations

CPU = torch.device("cpu")


@contextmanager
def counting(gpu: bool) -> Iterator[Counter]:
    with ExitStack() as stack:
        stack.enter_context(WithoutNumbers())
        if gpu:
            stack.enter_context(cuda_rules())
        yield stack.enter_context(Counter())


def count_tokenizer_step(config: TokenizerRunConfig, gpu: bool) -> Counter:
    """A step in which the discriminator takes part, where there is one, and its own."""
    with counting(gpu) as counter:
        with building():
            state, losses, step = open_tokenizer_step(config, CPU, config.compute.memory_on("cuda" if gpu else "cpu"))
        counter.name(tensors_of(state.tokenizer), WEIGHTS)
        counter.name(tensors_of(state.ema), AVERAGE)
        watch_parts(counter, state.tokenizer)
        watch_frozen(counter, losses.lpips, "LPIPS")
        watch_frozen(counter, losses.teacher and losses.teacher.network, "teacher")
        if state.adversary:
            counter.name(tensors_of(state.adversary.network), JUDGE)
            dino = getattr(state.adversary.network, "dino", None)
            counter.watch(state.adversary.network, "discriminator")
            watch_frozen(counter, dino and dino.network, "discriminator")
        for update in state.updates.values():
            fill_optimizer(counter, update)
        counter.forget()
        step()
        return counter


def whole_step(config: TokenizerRunConfig) -> int:
    """The number of a step with a discriminator, if there is one, that revives no codewords."""
    step = config.discriminator.start_step
    return step + ((step + 1) % config.revival.every == 0)


def open_tokenizer_step(
    config: TokenizerRunConfig, device: torch.device, memory: Memory
) -> tuple[tokenizer_loop.TokenizerState, TokenizerLosses, Callable[[], None]]:
    """The models that a step trains, its losses, and the step itself, on random images and with all that a run has.

    Frozen networks get random weights: nothing is downloaded.
    """
    changes = {
        name: getattr(config, name).model_copy(update={"weights": RANDOM}) for name in ("alignment", "discriminator")
    }
    config = config.model_copy(update=changes)
    state = tokenizer_loop.TokenizerState(config, device, None)
    lpips = Lpips().to(device) if config.loss.perceptual_weight > 0 else None
    teacher = open_teacher(config.alignment, config.model.grid, device) if config.alignment.is_used else None
    losses = TokenizerLosses(config, lpips, teacher)
    tokenizer_loop.spare(state, losses, memory, config.compute.precision)
    size, _ = micro_batch_numbers(config.schedule.batch_size, config.schedule.micro_batch_size)
    images = torch.randint(256, (size, 3, *config.model.image_size), dtype=torch.uint8)
    given, number = iter(lambda: Batch(images, torch.zeros(size)), None), whole_step(config)
    return state, losses, partial(tokenizer_loop.train_step, number, config, state, state.tokenizer, losses, given)


def count_har_step(config: HarRunConfig, gpu: bool) -> Counter:
    """A step on cached codes."""
    with counting(gpu) as counter:
        with building():
            state, step = open_har_step(config, CPU, config.compute.memory_on("cuda" if gpu else "cpu"))
        counter.name(tensors_of(state.har), WEIGHTS)
        counter.name(tensors_of(state.ema), AVERAGE)
        counter.watch(state.har, "generator")
        fill_optimizer(counter, state.update)
        counter.forget()
        step()
        return counter


def open_har_step(
    config: HarRunConfig, device: torch.device, memory: Memory
) -> tuple[har_loop.HarState, Callable[[], None]]:
    """The model that a step trains, and the step itself, on random codes."""
    state = har_loop.HarState(config, device, None)
    recompute_activations(state.har, memory)
    size, _ = micro_batch_numbers(config.schedule.batch_size, config.schedule.micro_batch_size)
    codes = torch.randint(config.model.codebook_size, (size, config.model.num_codes), device=device)
    given = iter(lambda: Coded(torch.zeros(size, dtype=torch.int64, device=device), codes), None)
    return state, partial(har_loop.train_step, 1, config, state, state.har, given)


def count_drawing(har: HarConfig, tokenizer: TokenizerConfig, batch_size: int, dtype: str, gpu: bool) -> Counter:
    """A batch of `generate`: all steps with guidance, then the pixels."""
    with counting(gpu) as counter, torch.inference_mode():
        with building():
            generator, decoder = Har(har).eval(), built(tokenizer, dtype)
            if dtype != "float32":
                generator.to(DTYPES[dtype])
        counter.name([*tensors_of(generator), *tensors_of(decoder)], WEIGHTS)
        counter.watch(generator, "generator")
        watch_parts(counter, decoder)
        counter.forget()
        class_ids = torch.empty(batch_size, dtype=torch.int64)
        codes = sample(generator, class_ids, torch.empty(batch_size, har.num_codes), SamplingOptions())
        decoder.decode(codes)
        return counter


def count_encoding(tokenizer: TokenizerConfig, batch_size: int, dtype: str, gpu: bool) -> Counter:
    """A batch of `encode`."""
    with counting(gpu) as counter, torch.inference_mode():
        with building():
            encoder = built(tokenizer, dtype)
        counter.name(tensors_of(encoder), WEIGHTS)
        watch_parts(counter, encoder)
        counter.forget()
        encoder.encode(torch.empty(batch_size, 3, *tokenizer.image_size))
        return counter


def count_features(batch_size: int, image_size: tuple[int, int], gpu: bool) -> Counter:
    """A batch of `evaluate`: Inception's features, float32."""
    from restok_cli.metrics.networks.inception import Inception  # which takes seconds, and is of no training

    with counting(gpu) as counter, torch.inference_mode():
        with building():
            network = Inception()
        counter.name(tensors_of(network), WEIGHTS)
        counter.watch(network, "Inception")
        counter.forget()
        network(torch.empty(batch_size, 3, *image_size, dtype=torch.uint8))
        return counter


def built(config: TokenizerConfig, dtype: str) -> Tokenizer:
    tokenizer = Tokenizer(config).eval()
    if dtype != "float32":
        tokenizer.to_dtype(DTYPES[dtype], torch.float16)
    return tokenizer


def watch_parts(counter: Counter, tokenizer: Tokenizer) -> None:
    for name, part in tokenizer.named_children():
        counter.watch(part, name)


def watch_frozen(counter: Counter, network: nn.Module | None, part: str) -> None:
    if network is not None:
        counter.name(tensors_of(network), FROZEN)
        counter.watch(network, part)


def fill_optimizer(counter: Counter, update: Update) -> None:
    """Bring an optimizer to its second step, in which it keeps its moments."""
    parameters = [p for group in update.optimizer.param_groups for p in group["params"]]
    counter.watch_gradients(parameters)
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    update.step(0)
    counter.name((t for state in update.optimizer.state.values() for t in state.values()), OPTIMIZER)
    update.step = counter.wrapped(update.step, OPTIMIZER)  # pyright: ignore[reportAttributeAccessIssue] (of this one)


def tensors_of(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
