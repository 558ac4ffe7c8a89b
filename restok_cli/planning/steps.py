"""The real steps of both training loops, and the passes of drawing and coding, on tensors without numbers.

Each function returns a Counter of what one of them takes on one device. `gpu` counts by the rules of CUDA.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from restok_cli.data.loading.loader import Batch
from restok_cli.metrics.lpips import Lpips
from restok_cli.planning.counting import Counter, WithoutNumbers, building
from restok_cli.planning.cuda_rules import cuda_rules
from restok_cli.settings.training import HarRunConfig, TokenizerRunConfig
from restok_cli.training import har_loop, tokenizer_loop
from restok_cli.training.frozen import RANDOM
from restok_cli.training.losses import TokenizerLosses
from restok_cli.training.parallel import micro_batch_numbers
from restok_cli.training.teachers import open_teacher
from restok_cli.training.update import Update
from restok_cli.training.warm_start import recompute_activations

CPU = torch.device("cpu")
PARTS = ("pixel_encoder", "encoder", "quantizer", "decoder", "pixel_decoder")


@contextmanager
def counting(gpu: bool) -> Iterator[Counter]:
    with ExitStack() as stack:
        stack.enter_context(WithoutNumbers())
        if gpu:
            stack.enter_context(cuda_rules())
        yield stack.enter_context(Counter())


def count_tokenizer_step(config: TokenizerRunConfig, gpu: bool) -> Counter:
    """A step in which the discriminator takes part, where there is one, and its own."""
    config = with_random_networks(config)
    with counting(gpu) as counter:
        with building():
            state = tokenizer_loop.TokenizerState(config, CPU, None)
            counter.name(tensors_of(state.tokenizer), "weights")
            counter.name(tensors_of(state.ema), "average")
            lpips = Lpips() if config.loss.perceptual_weight > 0 else None
            teacher = open_teacher(config.alignment, config.model.grid, CPU) if config.alignment.is_used else None
        losses = TokenizerLosses(config, lpips, teacher)
        for name in PARTS:
            if hasattr(state.tokenizer, name):
                counter.watch(getattr(state.tokenizer, name), name)
        watch_frozen(counter, lpips, "LPIPS")
        watch_frozen(counter, teacher and teacher.network, "teacher")
        if state.adversary:
            counter.name(tensors_of(state.adversary.network), "discriminator")
            dino = getattr(state.adversary.network, "dino", None)
            counter.watch(state.adversary.network, "discriminator")
            watch_frozen(counter, dino and dino.network, "discriminator")
        for model in filter(None, (state.tokenizer, lpips)):
            recompute_activations(model, config.compute.memory_on("cuda" if gpu else "cpu"))
        for update in state.updates.values():
            fill_optimizer(counter, update)
        size, _ = micro_batch_numbers(config.schedule.batch_size, config.schedule.micro_batch_size)
        batches = iter(
            lambda: Batch(torch.empty(size, 3, *config.model.image_size, dtype=torch.uint8), no_classes), None
        )
        no_classes = torch.empty(0)
        step = config.discriminator.start_step
        step += (step + 1) % config.revival.every == 0  # a step that revives no codewords
        counter.forget()
        tokenizer_loop.train_step(step, config, state, state.tokenizer, losses, batches)
        return counter


def count_har_step(config: HarRunConfig, gpu: bool) -> Counter:
    """A step on cached codes."""
    with counting(gpu) as counter:
        with building():
            state = har_loop.HarState(config, CPU, None)
        counter.name(tensors_of(state.har), "weights")
        counter.name(tensors_of(state.ema), "average")
        counter.watch(state.har, "generator")
        recompute_activations(state.har, config.compute.memory_on("cuda" if gpu else "cpu"))
        fill_optimizer(counter, state.update)
        size, _ = micro_batch_numbers(config.schedule.batch_size, config.schedule.micro_batch_size)
        coded = torch.empty(size, dtype=torch.int64), torch.empty(size, config.model.num_codes, dtype=torch.int64)
        counter.forget()
        har_loop.train_step(1, config, state, state.har, iter(lambda: coded, None))
        return counter


def with_random_networks(config: TokenizerRunConfig) -> TokenizerRunConfig:
    """The config with frozen networks that nobody has to download: their weights do not matter here."""
    sections = ("alignment", "discriminator")
    changes = {name: getattr(config, name).model_copy(update={"weights": RANDOM}) for name in sections}
    return config.model_copy(update=changes)


def watch_frozen(counter: Counter, network: nn.Module | None, part: str) -> None:
    if network is not None:
        counter.name(tensors_of(network), "frozen networks")
        counter.watch(network, part)


def fill_optimizer(counter: Counter, update: Update) -> None:
    """Bring an optimizer to its second step, in which it keeps its moments."""
    parameters = [p for group in update.optimizer.param_groups for p in group["params"]]
    counter.watch_gradients(parameters)
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    update.step(0)
    counter.name((t for state in update.optimizer.state.values() for t in state.values()), "optimizer")


def tensors_of(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
