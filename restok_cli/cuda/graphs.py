"""CUDA graphs: work whose every launch is known, recorded once and then launched as one.

Drawing the codes of one image is some 7,000 launches of little work each, for which a GPU waits (docs/benchmarks.md).
"""

from collections.abc import Callable

import torch
from torch import Tensor


class Recorded:
    """A function of tensors on one CUDA device, which gives the same result as the function, to the last bit.

    It is called with tensors of the shapes and types of `examples`. Nothing in it may wait for the device or depend on
    the numbers in its tensors. Memory that it takes stays taken until this object goes.
    """

    def __init__(self, function: Callable[..., Tensor], *examples: Tensor):
        self.inputs = [example.clone() for example in examples]
        stream = torch.cuda.Stream(examples[0].device)
        stream.wait_stream(torch.cuda.current_stream(examples[0].device))
        with torch.cuda.stream(stream):  # libraries choose their kernels, and take their workspaces, on the first call
            function(*self.inputs)
        torch.cuda.current_stream(examples[0].device).wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.output = function(*self.inputs)

    def __call__(self, *inputs: Tensor) -> Tensor:
        for kept, given in zip(self.inputs, inputs, strict=True):
            kept.copy_(given)
        self.graph.replay()
        return self.output.clone()  # the next call writes into it
