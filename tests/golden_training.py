"""The golden vectors of the released training (tests/golden/training, see its README): their inputs, and networks
filled as theirs were.

`inputs.weight(prefix + name, shape)` is a tensor of the released naming, `inputs.picked(tensor, n)` the values of a
tensor that are kept.
"""

import importlib.util
import json
from collections.abc import Iterable

import numpy as np
import timm
import torch
from conftest import GOLDEN
from torch import Tensor, nn

from restok_cli.metrics.networks.lpips import Lpips, open_lpips
from restok_cli.model.har import Har
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained.released_tensors import from_released, released_shapes
from restok_cli.settings.training import DINO
from restok_cli.training.adversarial.diff_augment import AUGMENT_NOISE, CUTOUT, MAX_SHIFT
from restok_cli.training.adversarial.discriminator import Dino, DinoDiscriminator
from restok_cli.training.losses import FIT_NOISE, PADDING

_spec = importlib.util.spec_from_file_location("golden_inputs", GOLDEN / "training" / "inputs.py")
inputs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(inputs)

VGG = GOLDEN / "weights" / "vgg16_features.safetensors"


def load_training_case(case: str) -> tuple[dict, dict[str, np.ndarray]]:
    """The facts (shapes, noise, names of parameters, …) and the numbers of a case."""
    facts = json.loads((GOLDEN / "training" / f"{case}.json").read_text())
    with np.load(GOLDEN / "training" / f"{case}.npz") as arrays:
        return facts, dict(arrays)


def released_lpips() -> Lpips:
    """LPIPS with the real weights of VGG-16."""
    assert VGG.exists(), f"{VGG} is missing: sdists leave its 29 MB out, so run this test in a checkout"
    return open_lpips(VGG, torch.device("cpu"))


def filled_model(model: Tokenizer | Har) -> Tokenizer | Har:
    """`model` with weights as filled for the golden vectors."""
    ours = {name: tensor.shape for name, tensor in model.state_dict().items()}
    theirs = inputs.weights(released_shapes(model.config, ours))
    model.load_state_dict(from_released(model.config, ours, theirs))
    return model


def assert_near(ours: Tensor, theirs: np.ndarray, tolerance: float = 1e-5) -> None:
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
    small = expected < 1e-3 * expected.max()
    torch.testing.assert_close(ours[~small], expected[~small], rtol=tolerance, atol=0)
    assert (ours[small] < 2e-3 * expected.max()).all()


def picked_rows(tensors: Iterable[Tensor], columns: int) -> Tensor:
    """`columns` picked values of each tensor; zeros follow where it has fewer."""
    rows = [inputs.picked(tensor, columns) for tensor in tensors]
    return torch.stack([nn.functional.pad(row, (0, columns - len(row))) for row in rows])


def released_discriminator_name(name: str) -> str:
    """The released name of a tensor of the heads on DINO, `heads.0.1.inner.0.parametrizations.weight.0._u`."""
    name = name.replace(".inner.", ".fn.").replace(".parametrizations.weight.original", ".weight_orig")
    return name.replace(".parametrizations.weight.0._", ".weight_")


def by_released_name(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Tensors of the heads on DINO, such as those of `named_parameters`, by their released names."""
    return {released_discriminator_name(name): tensor for name, tensor in tensors}


def discriminator_state(network: nn.Module, rounds: int = 20) -> dict[str, Tensor]:
    """Our state of the heads on DINO as filled for the golden vectors, the vectors of spectral norms moved on by
    `rounds` of power iteration; 20 is at rest."""
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    released = inputs.weights({released_discriminator_name(n): shape for n, shape in shapes.items()}, "discriminator.")
    if rounds:
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


def crop_noise(offsets: list[int], batch_size: int) -> Tensor:
    """The row of `pad_and_crop` that gives these offsets, for each image; of at least 120 pixels a side."""
    return ((torch.tensor(offsets) + 0.5) / (PADDING + 1)).expand(batch_size, -1)


def augment_draws(given: dict, size: int) -> Tensor:
    """The rows of `diff_augment` at probability 0.5 that change square images of `size` pixels as `given`."""
    most, cut = round(MAX_SHIFT * size), round(CUTOUT * size)
    noise = torch.empty(len(given["brightness"]), AUGMENT_NOISE)
    noise[:, :3] = torch.where(torch.tensor(given["happens"]), 0.25, 0.75)
    for column, name in enumerate(("brightness", "saturation", "contrast"), start=3):
        noise[:, column] = torch.tensor(given[name])
    noise[:, 6:8] = (torch.tensor(given["shift"]) + most + 0.5) / (2 * most + 1)
    noise[:, 8:] = (torch.tensor(given["hole"]) + 0.5) / (size + 1 - cut % 2)
    return noise


def step_draws(given: dict, size: int, batch_size: int) -> Tensor:
    """The rows of random numbers of a step, (B, NUM_NOISE): `given` has `offsets` and three times `augment`, those of
    the tokenizer's look at its reconstructions, then the discriminator's at real and at fake images."""
    rows = [crop_noise(given["offsets"], batch_size)]
    for augment in given["augment"]:
        fit = torch.full((batch_size, FIT_NOISE), 0.5)  # of no effect on images of less than 224 pixels
        rows += [augment_draws(augment, size), fit]
    return torch.cat(rows, dim=1)
