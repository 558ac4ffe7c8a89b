"""`restok evaluate --num-codes`: how good images become with every further level of codes."""

from collections.abc import Callable
from pathlib import Path

import torch

from restok_cli.console import counted
from restok_cli.data.images import to_uint8
from restok_cli.errors import UsageError
from restok_cli.evaluation.image_metrics import describe_comparison, encode_group, open_samples
from restok_cli.evaluation.request import Request
from restok_cli.files import SAMPLE_MODEL
from restok_cli.metrics import protocol
from restok_cli.metrics.measure import Instruments, choose_metrics, measure
from restok_cli.metrics.protocol import Measurement
from restok_cli.metrics.reference import Reference
from restok_cli.metrics.table import interval_text
from restok_cli.model.levels import prefix_lengths
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained.folder import fingerprint, load_for_use, open_tokenizer
from restok_cli.processes import rank

Curve = dict[int, dict[str, Measurement]]  # by the number of codes


def evaluate_prefixes(request: Request, instruments: Instruments, vgg_weights: Path | None) -> tuple[Curve, dict]:
    """For each prefix length the measurements of what so many codes give back, against SAMPLES; and the protocol."""
    model = request.model or SAMPLE_MODEL
    folder = open_tokenizer(model)
    tokenizer = load_for_use(folder, instruments.device)
    lengths = _lengths(request.num_codes or "all", tokenizer.config.num_latent_tokens)
    originals = open_samples(request)
    originals.crop_to(tokenizer.config.image_size)
    reference = Reference(originals.source, None, originals)
    metrics = choose_metrics(request.metrics, originals, reference, instruments, vgg_weights)
    codes: dict[int, torch.Tensor] = {}  # of each group: encoded once, for all prefixes
    sets = [
        originals.changed(
            f"{originals.source}, {counted(length, 'token')}", _decode_first(length, tokenizer, codes, instruments)
        )
        for length in lengths
    ]
    results = measure(sets, reference, metrics, instruments)
    if rank() > 0:
        return {length: {} for length in lengths}, {}
    circumstances = describe_comparison(sets[-1], reference, metrics, instruments)
    circumstances |= {"model": str(model), "model_fingerprint": fingerprint(folder)}
    return dict(zip(lengths, results, strict=True)), circumstances


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


def _decode_first(
    length: int, tokenizer: Tokenizer, codes: dict[int, torch.Tensor], instruments: Instruments
) -> Callable[[int, torch.Tensor], torch.Tensor]:
    """A function from the number and the images of a group to the images that their first `length` codes give."""

    @torch.inference_mode()
    def transform(number: int, images: torch.Tensor) -> torch.Tensor:
        if number not in codes:
            codes[number] = encode_group(tokenizer, images, instruments.device).to(torch.int32).cpu()
        first = codes[number][:, :length].long().to(instruments.device)
        return to_uint8(tokenizer.decode(first))[: len(images)].cpu()

    return transform


def curve_report(curve: Curve, circumstances: dict) -> dict:
    """The result as one JSON-ready object: {"tokens": [{"tokens": 1, "metrics": {...}}, ...], "protocol": {...}}."""
    steps = [{"tokens": length, "metrics": protocol.metrics_report(curve[length])} for length in curve]
    return {"tokens": steps, "protocol": circumstances | {"versions": protocol.versions()}}


def curve_table(curve: Curve) -> list[str]:
    """The result for people: a line per prefix length, a column per metric."""
    rows = [("codes", *(measurement.label for measurement in next(iter(curve.values())).values()))]
    for length, measurements in curve.items():
        found = measurements.values()
        rows.append((str(length), *(f"{each.value:.6g} {interval_text(each.interval)}".rstrip() for each in found)))
    widths = [6, *(max(14, *(len(row[place]) for row in rows)) for place in range(1, len(rows[0])))]
    return [" ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
