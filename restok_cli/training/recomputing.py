"""Activations: which of them a step keeps for its backward pass, and which it computes again (`compute.memory`)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from restok_cli.metrics.networks.lpips import Lpips
from restok_cli.model.har import Har, HarBlock
from restok_cli.model.layers import Block
from restok_cli.model.pixel_codec import ResidualBlock
from restok_cli.model.tokenizer import Tokenizer

Memory = Literal["fast", "balanced", "small"]  # of compute.memory

# What takes long to compute, by its names in PyTorch.
KEPT = [
    getattr(torch.ops.aten, name).default
    for name in (
        *("mm", "addmm", "bmm", "convolution", "_scaled_dot_product_cudnn_attention"),
        *("_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention"),
        "_scaled_dot_product_flash_attention_for_cpu",
    )
]


def recompute_activations(model: Tokenizer | Har | Lpips, memory: Memory, compiled: bool = False) -> None:
    """Keep less for the backward pass than "fast", which keeps all, and compute the rest again there, in place.

    "balanced" keeps what takes long to compute: products and attention of transformer blocks, and convolutions. "small"
    keeps of a block, or a stage of LPIPS, only what enters it (of a tokenizer's transformer block, what enters either
    half). What is computed stays the same. Blocks that are to be `compiled` say what they keep in the compiler's way,
    in which without it Python would see each operation.
    """
    if memory == "fast":
        return
    # only blocks of HAR draw numbers, for dropout: to keep and restore the state of the generators takes time
    again = partial(checkpoint, use_reentrant=False, preserve_rng_state=isinstance(model, Har))
    selective = partial(again, context_fn=partial(create_selective_checkpoint_contexts, KEPT))
    in_blocks = selective if memory == "balanced" else again
    ways = {
        Block: (in_blocks, "attend", "feed"),
        HarBlock: (in_blocks, "forward"),
        ResidualBlock: (in_blocks, "forward"),
        Lpips: (again, "distance") if memory == "balanced" else (again, "distance", "stage"),
    }
    for module in model.modules():
        if memory == "balanced" and not compiled and not isinstance(module, Lpips):
            Sparing().take(module)
            continue
        way, *methods = ways.get(type(module), (None,))
        for method in methods:
            setattr(module, method, partial(way, getattr(module, method)))


class Sparing:
    """How one block keeps, of its light functions, only what they take.

    A product keeps what it takes for the backward pass. Where that is the output of a light function, it is computed
    again from what that took, when the gradient comes. Unlike selective checkpointing, Python sees no operation.
    """

    def __init__(self) -> None:
        # by their storage; the outputs stay alive until the block is done, so that nothing else takes their place
        self.spared: dict[int, tuple[Tensor, _Call, int]] = {}

    def take(self, block: nn.Module) -> None:
        """Change a block of a transformer or pixel codec, in place."""
        if isinstance(block, Block):
            for norm in (block.norm1, block.norm2):
                _change(norm, "forward", self.spare)
            attention = block.attn
            _change(attention, "turn", self.spare_all, [*attention.q_norm.parameters(), *attention.k_norm.parameters()])
            _change(attention, "join", self.spare)
            _change(block.mlp, "activate", self.spare)
            _change(block, "add", _keep_output)
            _change(block, "attend", self.run)
            _change(block, "feed", self.run)
        elif isinstance(block, HarBlock):
            _change(block.attention_norm, "forward", self.spare)
            _change(block.ffn_norm, "forward", partial(self.spare, cast=False))
            for product in (block.gate, block.up):  # autocast casts for each, and their gradients add up uncast
                _change(product, "forward", self.narrow)
            _change(block, "turn", self.spare)
            _change(block, "join", self.spare)
            _change(block, "activate", self.spare_all, [])
            _change(block, "forward", self.run)
        elif isinstance(block, ResidualBlock):
            for norm in (block.norm1, block.norm2):
                _change(norm, "forward", self.spare_all, [*norm.parameters()])
            _change(block, "forward", self.run)

    def run(self, method: Callable[..., Tensor], *arguments: Any) -> Tensor:
        """Call a method of the block."""
        with torch.autograd.graph.saved_tensors_hooks(self._pack, _unpack):
            try:
                return method(*arguments)
            finally:
                self.spared.clear()

    def spare(self, function: Callable[..., Any], *arguments: Tensor, cast: bool = True) -> Any:
        """Call a light function whose gradient needs its arguments alone, and keep no output."""
        call = _Call(function, arguments, cast)
        outputs = call.compute(arguments)
        call.arguments = [self._pack(argument) for argument in call.arguments]  # some may be spared themselves
        return self._spare(call, outputs)

    def narrow(self, product: Callable[..., Tensor], tokens: Tensor) -> Tensor:
        """Call a product with what a light function has given to several."""
        return product(self.spare(_same, tokens))

    def spare_all(self, weights: list[Tensor], function: Callable[..., Any], *arguments: Tensor) -> Any:
        """Call a light function of some weights, and keep neither its output nor what it computes on the way."""
        call = _Call(function, arguments, cast=True, weights=weights)
        return self._spare(call, _Again.apply(call, *arguments, *weights))

    def _spare(self, call: "_Call", outputs: tuple[Tensor, ...]) -> Any:
        taken = {_storage(argument) for argument in call.arguments if isinstance(argument, Tensor)}
        for i, output in enumerate(outputs):
            if _storage(output) not in taken:  # a view takes no memory
                self.spared[_storage(output)] = output, call, i
        first, *others = outputs
        return outputs if others else first

    def _pack(self, tensor: Tensor) -> Any:
        if (found := self.spared.get(_storage(tensor))) is None:
            return tensor
        _, call, i = found
        return call, i, tensor.shape, tensor.stride(), tensor.storage_offset()


def _unpack(packed: Any) -> Tensor:
    if isinstance(packed, Tensor):
        return packed
    call, i, *view = packed
    return call.again()[i].detach().as_strided(*view)


def _keep_output(function: Callable[..., Tensor], *arguments: Tensor) -> Tensor:
    """Call a light function, and keep its output, but nothing that it computes on the way."""
    (output,) = _Again.apply(_Call(function, arguments, cast=False, weights=[]), *arguments)
    return output


def _change(module: nn.Module, method: str, way: Callable[..., Any], *more: Any) -> None:
    setattr(module, method, partial(way, *more, getattr(module, method)))


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata  # also of tensors without numbers, which have no address


class _Call:
    """A light function and what it was called with. Its outputs may be `cast` to what autocast gives to products.

    One with `weights` (or none: []) has the gradient go through what is computed again.
    """

    def __init__(
        self, function: Callable[..., Any], arguments: Sequence[Tensor], cast: bool, weights: list[Tensor] | None = None
    ):
        self.function, self.weights = function, weights
        self.arguments: list[Any] = [a.detach().requires_grad_(a.requires_grad) for a in arguments]
        self.device = arguments[0].device.type
        self.dtype = torch.get_autocast_dtype(self.device) if torch.is_autocast_enabled(self.device) else None
        self.cast = cast and self.dtype is not None
        self.outputs: tuple[Tensor, ...] | None = None  # computed again, until the gradient has gone through them

    def compute(self, arguments: Sequence[Tensor]) -> tuple[Tensor, ...]:
        outputs = self.function(*arguments)
        outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
        return tuple(output.to(self.dtype) for output in outputs) if self.cast else tuple(outputs)

    def again(self) -> tuple[Tensor, ...]:
        if self.outputs is not None:
            return self.outputs
        through = self.weights is not None
        with torch.set_grad_enabled(through), torch.autocast(self.device, self.dtype, enabled=self.dtype is not None):
            outputs = self.compute([_unpack(argument) for argument in self.arguments])
        if through:  # for the function's own gradient, which comes next
            self.outputs = outputs
        return outputs


class _Again(torch.autograd.Function):
    """A call whose graph is made when its gradient comes."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *_: Tensor) -> tuple[Tensor, ...]:
        ctx.call = call
        return call.compute(call.arguments)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        call, taken = ctx.call, [*ctx.call.arguments, *ctx.call.weights]
        outputs, call.outputs = call.again(), None
        wanted = [tensor for tensor in taken if tensor.requires_grad]
        found = iter(torch.autograd.grad(outputs, wanted, gradients))
        return None, *(next(found) if tensor.requires_grad else None for tensor in taken)
