"""`restok evaluate --num-codes`: how good images become with every further level of codes."""

from pathlib import Path

from restok_cli.console import counted
from restok_cli.errors import UsageError
from restok_cli.evaluation.decoded import Change, Decoder
from restok_cli.evaluation.image_metrics import describe_comparison
from restok_cli.evaluation.request import Request
from restok_cli.metrics import protocol
from restok_cli.metrics.measure import Instruments, choose_metrics, measure
from restok_cli.metrics.protocol import Measurement
from restok_cli.metrics.table import interval_text
from restok_cli.model.levels import prefix_lengths
from restok_cli.processes import rank

Curve = dict[int, dict[str, Measurement]]  # by the number of codes


def evaluate_prefixes(request: Request, instruments: Instruments, vgg_weights: Path | None) -> tuple[Curve, dict]:
    """For each prefix length the measurements of what so many codes give back, against SAMPLES; and the protocol."""
    decoder = Decoder(request, instruments.device)
    lengths = _lengths(request.num_codes or "all", decoder.tokenizer.config.num_latent_tokens)
    reference = decoder.reference
    metrics = choose_metrics(request.metrics, decoder.originals, reference, instruments, vgg_weights)
    sets = [decoder.decoded(counted(length, "code"), _first(length)) for length in lengths]
    results = measure(sets, reference, metrics, instruments)
    if rank() > 0:
        return {length: {} for length in lengths}, {}
    circumstances = describe_comparison(sets[-1], reference, metrics, instruments) | decoder.describe()
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


def _first(length: int) -> Change:
    return lambda codes, _: codes[:, :length]


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
