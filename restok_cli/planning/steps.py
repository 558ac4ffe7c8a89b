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
from restok_cli.planning.cards import ON_CPU, ON_GPU
from restok_cli.planning.configs import changed, num_rounds
from restok_cli.planning.counting import AVERAGE, FROZEN, JUDGE, OPTIMIZER, WEIGHTS, Counter, WithoutNumbers, building
from restok_cli.planning.cuda_rules import cuda_rules
from restok_cli.settings.training import HarRunConfig, RunConfig, TokenizerRunConfig
from restok_cli.training import har_loop, tokenizer_loop
from restok_cli.training.code_source import Coded
from restok_cli.training.frozen import RANDOM
from restok_cli.training.losses import TokenizerLosses
from restok_cli.training.parallel import micro_batch_numbers
from restok_cli.training.recomputing import Memory, recompute_activations
from restok_cli.training.teachers import open_teacher
from restok_cli.training.update import DTYPES, Update

CPU = torch.device("cpu")


@contextmanager
def counting(gpu: bool) -> Iterator[Counter]:
    with ExitStack() as stack:
        stack.enter_context(WithoutNumbers())
        if gpu:
            stack.enter_context(cuda_rules())
        yield stack.enter_context(Counter())


def count_step(config: RunConfig, gpu: bool) -> Counter:
    """A step of one device. A tokenizer's is one in which the discriminator takes part, where there is one.

    Of more micro-batches than two, two are counted: the others are like the second.
    """
    rounds = num_rounds(config)
    counted = min(2, rounds)
    config = changed(config, schedule={"batch_size": config.schedule.batch_size // rounds * counted})
    memory = config.compute.memory_on("cuda" if gpu else "cpu")
    with counting(gpu) as counter:
        if isinstance(config, TokenizerRunConfig):
            with building():
                state, losses, step = open_tokenizer_step(config, CPU, memory)
            name_tokenizer_parts(counter, state, losses)
            updates = [*state.updates.values()]
        else:
            with building():
                state, step = open_har_step(config, CPU, memory)
            watch_weights(counter, state.har)
            updates = [state.update]
        counter.name(tensors_of(state.ema), AVERAGE)
        for update in updates:
            fill_optimizer(counter, update)
        counter.forget()
        step()
        counter.repeat(rounds / counted)
        return counter


def name_tokenizer_parts(counter: Counter, state: tokenizer_loop.TokenizerState, losses: TokenizerLosses) -> None:
    watch_weights(counter, state.tokenizer)
    watch_frozen(counter, losses.lpips, "LPIPS")
    watch_frozen(counter, losses.teacher and losses.teacher.network, "teacher")
    if state.adversary:
        counter.name(tensors_of(state.adversary.network), JUDGE)
        dino = getattr(state.adversary.network, "dino", None)
        counter.watch(state.adversary.network, "discriminator")
        watch_frozen(counter, dino and dino.network, "discriminator")


def whole_step(config: TokenizerRunConfig) -> int:
    """The number of a step with a discriminator, if there is one, that revives no codewords."""
    step = config.discriminator.start_step
    return step + ((step + 1) % config.revival.every == 0)


def open_tokenizer_step(
    config: TokenizerRunConfig, device: torch.device, memory: Memory, compiled: bool = False
) -> tuple[tokenizer_loop.TokenizerState, TokenizerLosses, Callable[[], None]]:
    """The models that a step trains, its losses, and the step itself, on random images and with all that a run has.

    Frozen networks get random weights: nothing is downloaded. If it is to be `compiled`, the caller does that.
    """
    config = changed(config, alignment={"weights": RANDOM}, discriminator={"weights": RANDOM})
    with device:  # a GPU draws a billion weights in no time
        state = tokenizer_loop.TokenizerState(config, device, None)
        lpips = Lpips().to(device) if config.loss.perceptual_weight > 0 else None
        teacher = open_teacher(config.alignment, config.model.grid, device) if config.alignment.is_used else None
    losses = TokenizerLosses(config, lpips, teacher)
    tokenizer_loop.spare(state, losses, memory, config.compute.precision, compiled)
    size, _ = micro_batch_numbers(config.schedule.batch_size, config.schedule.micro_batch_size)
    images = torch.randint(256, (size, 3, *config.model.image_size), dtype=torch.uint8)
    given, number = iter(lambda: Batch(images, torch.zeros(size)), None), whole_step(config)
    return state, losses, partial(tokenizer_loop.train_step, number, config, state, state.tokenizer, losses, given)


def open_har_step(
    config: HarRunConfig, device: torch.device, memory: Memory, compiled: bool = False
) -> tuple[har_loop.HarState, Callable[[], None]]:
    """The model that a step trains, and the step itself, on random codes. `compiled` as for a tokenizer."""
    with device:
        state = har_loop.HarState(config, device, None)
    recompute_activations(state.har, memory, compiled)
    size, _ = micro_batch_numbers(config.schedule.batch_size, config.schedule.micro_batch_size)
    codes = torch.randint(config.model.codebook_size, (size, config.model.num_codes), device=device)
    given = iter(lambda: Coded(torch.zeros(size, dtype=torch.int64, device=device), codes), None)
    return state, partial(har_loop.train_step, 1, config, state, state.har, given)


def count_drawing(har: HarConfig, tokenizer: TokenizerConfig, batch_size: int, dtype: str, gpu: bool) -> Counter:
    """A batch of `generate`: all steps with guidance, then the pixels."""

    def generate(generator: Har, decoder: Tokenizer) -> None:
        class_ids = torch.empty(batch_size, dtype=torch.int64)
        decoder.decode(sample(generator, class_ids, torch.empty(batch_size, har.num_codes), SamplingOptions()))

    return count_pass(lambda: (Har(har).eval().to(DTYPES[dtype]), built(tokenizer, dtype)), generate, gpu)


def count_encoding(tokenizer: TokenizerConfig, batch_size: int, dtype: str, gpu: bool) -> Counter:
    """A batch of `encode`."""
    shape = batch_size, 3, *tokenizer.image_size
    return count_pass(lambda: (built(tokenizer, dtype),), lambda encoder: encoder.encode(torch.empty(shape)), gpu)


def count_features(batch_size: int, image_size: tuple[int, int], gpu: bool) -> Counter:
    """A batch of `evaluate`: Inception's features, float32."""
    from restok_cli.metrics.networks.inception import Inception  # which takes seconds, and is of no training

    shape = batch_size, 3, *image_size
    return count_pass(lambda: (Inception(),), lambda network: network(torch.empty(shape, dtype=torch.uint8)), gpu)


def memory_of_step(config: RunConfig, gpu: bool) -> float:
    """Bytes that a process needs for a step, also for what is beside the count."""
    return (ON_GPU if gpu else ON_CPU).added(count_step(config, gpu).peak)


def count_pass(make: Callable[[], tuple[nn.Module, ...]], run: Callable[..., object], gpu: bool) -> Counter:
    """A call of `run` with the models that `make` gives, without gradients."""
    with counting(gpu) as counter, torch.inference_mode():
        with building():
            models = make()
        for model in models:
            watch_weights(counter, model)
        counter.forget()
        run(*models)
        return counter


def built(config: TokenizerConfig, dtype: str) -> Tokenizer:
    tokenizer = Tokenizer(config).eval()
    if dtype != "float32":
        tokenizer.to_dtype(DTYPES[dtype], torch.float16)
    return tokenizer


def watch_weights(counter: Counter, model: nn.Module) -> None:
    """Name the weights of a model, and as parts of the work those of a tokenizer, or the whole of another one."""
    counter.name(tensors_of(model), WEIGHTS)
    parts = {"generator" if isinstance(model, Har) else type(model).__name__: model}
    if isinstance(model, Tokenizer):
        parts = dict(model.named_children())
    for name, part in parts.items():
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
    update.step = counter.inside(OPTIMIZER)(update.step)  # pyright: ignore[reportAttributeAccessIssue] (of this one)


def tensors_of(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
