"""CUDA graphs: work whose every launch is known, recorded once and then launched as one.

Drawing the codes of one image is some 7,000 launches of little work each, for which a GPU waits (docs/benchmarks.md).
"""

from collections.abc import Callable

import torch
from torch import Tensor


class Recorded:
    """A function of tensors on one CUDA device, which gives the same tensors as the function, to the last bit.

    It is recorded on its first call; tensors of other shapes than those are computed without a graph. Nothing in it may
    wait for the device or depend on the numbers in its tensors. The memory that it takes stays taken until this object
    goes.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]]):
        self.function = function
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        if self.graph is None:
            self.graph = self._record(inputs)
        if any(given.shape != kept.shape for kept, given in zip(self.inputs, inputs, strict=True)):
            return self.function(*inputs)
        for kept, given in zip(self.inputs, inputs, strict=True):
            kept.copy_(given)
        self.graph.replay()
        return tuple(output.clone() for output in self.outputs)  # the next call writes into them

    def _record(self, inputs: tuple[Tensor, ...]) -> torch.cuda.CUDAGraph:
        self.inputs = [given.clone() for given in inputs]
        device = inputs[0].device
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):  # libraries choose their kernels, and take their workspaces, on the first call
            self.function(*self.inputs)
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):  # else a stream of the first GPU, of which nothing here may run
            self.outputs = self.function(*self.inputs)
        return graph
