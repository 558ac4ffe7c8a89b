"""Images that a tokenizer decodes from changed codes of SAMPLES, such as the first ones alone.

`restok evaluate --num-codes` measures those: how good images become with every further level of codes.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from restok_cli.console import counted
from restok_cli.data.images import decode_pixels
from restok_cli.errors import UsageError
from restok_cli.evaluation.image_metrics import describe_comparison, encode_group, open_samples
from restok_cli.evaluation.request import Request
from restok_cli.evaluation.result import Evaluation
from restok_cli.files import SAMPLE_MODEL
from restok_cli.metrics.image_sets import GROUP_SIZE, ImageSet
from restok_cli.metrics.measure import Instruments, choose_metrics, measure
from restok_cli.metrics.protocol import Measurement
from restok_cli.metrics.reference import Reference
from restok_cli.model.levels import prefix_lengths
from restok_cli.pretrained.folder import fingerprint, open_tokenizer
from restok_cli.pretrained.modules import load_for_use

Change = Callable[[Tensor, Tensor], Tensor]  # codes (GROUP_SIZE, L), the images (B, 3, H, W) uint8 of the first B


class Redecoding:
    """SAMPLES and the tokenizer that decodes them; each image is encoded once, for all changes."""

    def __init__(self, request: Request, device: torch.device):
        self.model, self.device = request.model or SAMPLE_MODEL, device
        self.folder = open_tokenizer(self.model)
        self.tokenizer = load_for_use(self.folder, device)
        self.originals = open_samples(request)
        self.originals.crop_to(self.tokenizer.config.image_size)
        self.reference = Reference(self.originals.source, None, self.originals)
        self.codes: dict[int, Tensor] = {}  # of each group

    def measure(
        self, changes: dict[str, Change], metrics: list[str], instruments: Instruments
    ) -> tuple[list[dict[str, Measurement]], dict]:
        """The images as each of `changes` leaves them, against the originals; and the protocol.

        The name of a change says in words what it does.
        """
        sets = [self._decoded(name, change) for name, change in changes.items()]
        results = measure(sets, self.reference, metrics, instruments)
        protocol = describe_comparison(sets[-1], self.reference, metrics, instruments)
        return results, protocol | {"model": str(self.model), "model_fingerprint": fingerprint(self.folder)}

    def _decoded(self, name: str, change: Change) -> ImageSet:
        @torch.inference_mode()
        def transform(indices: list[int], images: Tensor) -> Tensor:
            number = indices[0] // GROUP_SIZE
            if number not in self.codes:
                self.codes[number] = encode_group(self.tokenizer, images, self.device).to(torch.int32).cpu()
            codes = change(self.codes[number].long(), images).to(self.device)
            pixels = decode_pixels(self.tokenizer.decode, codes)
            return pixels.checked([*map(self.originals.key, indices)], self.tokenizer.dtype)[: len(images)]

        return self.originals.changed(f"{self.originals.source}, {name}", transform)


def evaluate_prefixes(request: Request, instruments: Instruments, vgg_weights: Path | None) -> Evaluation:
    """For each prefix length the measurements of what so many codes give back, against SAMPLES."""
    redecoding = Redecoding(request, instruments.device)
    lengths = _lengths(request.num_codes or "all", redecoding.tokenizer.config.num_latent_tokens)
    metrics = choose_metrics(request.metrics, redecoding.originals, redecoding.reference, instruments, vgg_weights)
    changes = {counted(length, "code"): _first(length) for length in lengths}
    results, protocol = redecoding.measure(changes, metrics, instruments)
    return Evaluation(results[-1], protocol, curve=dict(zip(lengths, results, strict=True)))


def _lengths(asked: str, num_codes: int) -> list[int]:
    """Prefix lengths that --num-codes asks for, ascending. Raises UsageError where a tokenizer makes fewer codes."""
    if asked == "all":
        return list(prefix_lengths(num_codes))
    lengths = sorted({int(part) for part in asked.split(",")})
    if lengths[-1] > num_codes:
        raise UsageError(
            f"--num-codes {lengths[-1]}: this tokenizer makes {num_codes} codes an image; give 1 to {num_codes}"
        )
    return lengths


def _first(length: int) -> Change:
    return lambda codes, _: codes[:, :length]
