"""The golden vectors of the released training (tests/golden/training, see its README): their inputs, and networks
filled as theirs were.

`inputs.weight(prefix + name, shape)` is a tensor of the released naming, `inputs.picked(tensor, n)` the values of a
tensor that are kept.
"""

import importlib.util
import json
from collections.abc import Callable, Iterable

import numpy as np
import timm
import torch
from conftest import GOLDEN
from torch import Tensor, nn

from restok_cli.training.config import DINO
from restok_cli.training.discriminator import Dino, DinoDiscriminator

_spec = importlib.util.spec_from_file_location("golden_inputs", GOLDEN / "training" / "inputs.py")
inputs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(inputs)

VGG = GOLDEN / "weights" / "vgg16_features.safetensors"


def load_training_case(case: str) -> tuple[dict, dict[str, np.ndarray]]:
    """The facts (shapes, draws, names of parameters, …) and the numbers of a case."""
    facts = json.loads((GOLDEN / "training" / f"{case}.json").read_text())
    with np.load(GOLDEN / "training" / f"{case}.npz") as arrays:
        return facts, dict(arrays)


def assert_near(ours: Tensor, theirs: np.ndarray, tolerance: float) -> None:
    """Equal but for `tolerance` of the largest value of `theirs`."""
    expected = torch.from_numpy(np.asarray(theirs)).to(ours.dtype).view_as(ours)
    torch.testing.assert_close(ours.detach(), expected, rtol=0, atol=tolerance * expected.abs().max().item())


def summary(tensor: Tensor) -> Tensor:
    """Mean, standard deviation and norm: the three numbers of a `*_gradient`."""
    tensor = tensor.detach()
    return torch.stack([tensor.mean(), tensor.std(), tensor.norm()])


def assert_near_norms(gradients: dict[str, Tensor], names: list[str], theirs: np.ndarray, tolerance=2e-3) -> None:
    """Norms of the tensors `names`; those below a thousandth of the largest are rounding."""
    ours = torch.stack([gradients[name].detach().norm() for name in names])
    expected = torch.from_numpy(theirs).to(ours.dtype)
    torch.testing.assert_close(ours, expected, rtol=tolerance, atol=1e-3 * expected.max().item())


def picked_rows(tensors: Iterable[Tensor], columns: int) -> Tensor:
    """`columns` picked values of each tensor; zeros follow where it has fewer."""
    rows = [inputs.picked(tensor, columns) for tensor in tensors]
    return torch.stack([nn.functional.pad(row, (0, columns - len(row))) for row in rows])


def released_discriminator_name(name: str) -> str:
    """The released name of a tensor of the heads on DINO, `heads.0.1.inner.0.parametrizations.weight.0._u`."""
    name = name.replace(".inner.", ".fn.").replace(".parametrizations.weight.original", ".weight_orig")
    return name.replace(".parametrizations.weight.0._", ".weight_")


def released_names_of(network: nn.Module, values: Callable[[Tensor], Tensor] = lambda p: p) -> dict[str, Tensor]:
    """`values` of the parameters of a discriminator, such as their gradients, by their released names."""
    return {released_discriminator_name(name): values(p) for name, p in network.named_parameters()}


def discriminator_state(network: nn.Module, rounds: int = 20) -> dict[str, Tensor]:
    """Our state of the heads on DINO as filled for the golden vectors, the vectors of spectral norms moved on by
    `rounds` of power iteration; 20 is at rest."""
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    released = inputs.weights({released_discriminator_name(n): shape for n, shape in shapes.items()}, "discriminator.")
    released = inputs.settled(released, rounds)
    return {name: released[released_discriminator_name(name)] for name in shapes}


def filled_discriminator(rounds: int = 20) -> DinoDiscriminator:
    """Heads and DINO filled as for the golden vectors, with the released code's tanh GELU in place of DINO's own."""
    vit = timm.create_model(DINO, pretrained=False).requires_grad_(False).eval()
    vit.load_state_dict(inputs.weights({name: tensor.shape for name, tensor in vit.state_dict().items()}, "dino."))
    for block in vit.blocks:
        block.mlp.act = nn.GELU("tanh")
    network = DinoDiscriminator(Dino(vit))
    network.load_state_dict(discriminator_state(network, rounds))
    return network
