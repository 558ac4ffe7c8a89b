"""`restok evaluate --num-codes`: how good images become with every further level of codes."""

from pathlib import Path

from restok_cli.console import counted
from restok_cli.errors import UsageError
from restok_cli.evaluation.decoded import Change, Redecoding
from restok_cli.evaluation.request import Request
from restok_cli.evaluation.result import Evaluation
from restok_cli.metrics.measure import Instruments, choose_metrics
from restok_cli.model.levels import prefix_lengths


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
