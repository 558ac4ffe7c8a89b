"""`restok evaluate`: numbers for pictures and codes, and the protocol that makes them comparable."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from restok_cli.commands.options import Device, open_device
from restok_cli.console import Progress, note
from restok_cli.errors import RestokError, UsageError, did_you_mean

if TYPE_CHECKING:
    import numpy as np

    from restok_cli.metrics.protocol import Measurement

FEATURE_METRICS = ("gfid", "rfid", "fid", "is")
REFERENCE_METRICS = ("gfid", "rfid", "fid", "psnr", "ssim", "mse")
METRICS = (*REFERENCE_METRICS, "is", "codebook")


def evaluate(
    samples: Annotated[
        str,
        typer.Argument(
            metavar="SAMPLES",
            help="A folder of pictures, an ADM .npz, a data set (or the word sample), or codes (.npz).",
            show_default=False,
        ),
    ],
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=f"One of {', '.join(METRICS)}; may be repeated. Default: gfid.",
            autocompletion=lambda incomplete: [name for name in METRICS if name.startswith(incomplete)],
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(metavar="REF", help="What to compare with: the same forms, or statistics (.npz: mu, sigma)."),
    ] = None,
    split: Annotated[
        Literal["validation", "train", "all"], typer.Option(help="The split to take where a data set is given.")
    ] = "validation",
    features: Annotated[
        Literal["inception", "random"],
        typer.Option(help="The network behind fid, gfid, rfid and is; random needs no download: smoke tests only."),
    ] = "inception",
    inception_weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="torch-fidelity's Inception weights. Default: torch's cache, or a download.",
        ),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(metavar="M", help="For codebook: the tokenizer that makes codes of the pictures.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures at a time; changes speed, not results.")] = 32,
    device: Device = "auto",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object with the protocol instead of a table.")
    ] = False,
) -> None:
    """Measure pictures: FID, Inception Score, PSNR, SSIM, MSE, and how well a codebook is used.

    fid and gfid compare two sets of pictures; rfid, psnr, ssim and mse compare
    each picture with the one of the same name in REF. Pictures of REF that have
    another size get the ADM centre crop. Every number carries its n (gFID-50k);
    --json adds the protocol that made it: hashes of pictures and weights, crop,
    rounding, versions.

    Examples: what generate drew, what reconstruct gave back, a batch for the ADM
    evaluator, the use of a codebook:

      restok evaluate pictures --reference sample --split train
      restok evaluate reconstructed --metric rfid --metric psnr --reference photos
      restok evaluate samples.npz --metric gfid --reference adm.npz --json
      restok evaluate sample --metric codebook --model runs/tokenizer
    """
    started = time.monotonic()
    metrics = _check_metrics(metric or [], reference, model)

    from restok_cli.metrics import protocol

    if metrics == ["codebook"]:
        measurements, circumstances = _evaluate_codes(samples, split, model, batch_size, device)
    else:
        measurements, circumstances = _evaluate_pictures(
            samples, reference, split, metrics, features, inception_weights, batch_size, device
        )
    circumstances["seconds"] = round(time.monotonic() - started, 3)
    if as_json:
        print(json.dumps(protocol.report(measurements, circumstances), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print(protocol.table(measurements))
    for caveat in sorted({measurement.caveat for measurement in measurements.values()} - {""}):
        names = ", ".join(measurement.name for measurement in measurements.values() if measurement.caveat == caveat)
        note(f"not comparable with published numbers ({caveat}): {names}")


def _check_metrics(metrics: list[str], reference: str | None, model: Path | None) -> list[str]:
    """The metrics to compute, each once, all of them possible with what was given."""
    for name in metrics:
        if name not in METRICS:
            raise UsageError(f"unknown metric {name}{did_you_mean(name, METRICS)}; choose from {', '.join(METRICS)}")
    metrics = list(dict.fromkeys(metrics)) or ["gfid"]
    if "codebook" in metrics and len(metrics) > 1:
        raise UsageError("codebook measures codes, the other metrics pictures; run `restok evaluate` once for each")
    if model is not None and metrics != ["codebook"]:
        raise UsageError("--model makes codes, which only --metric codebook measures; leave it out for other metrics")
    needy = next((name for name in metrics if name in REFERENCE_METRICS), None)
    if needy and reference is None:
        raise UsageError(
            f"{needy} needs something to compare with; give --reference, for example --reference sample --split train"
        )
    if needy is None and reference is not None:
        raise UsageError(f"{metrics[0]} compares with nothing; leave --reference out, or add --metric gfid")
    return metrics


def _evaluate_pictures(
    samples: str,
    reference: str | None,
    split: str,
    metrics: list[str],
    features: str,
    inception_weights: Path | None,
    batch_size: int,
    device: str,
) -> "tuple[dict[str, Measurement], dict]":
    """The measurements, and the protocol they were made by."""
    from restok_cli.metrics.features import open_network
    from restok_cli.metrics.measure import measure_pictures
    from restok_cli.metrics.pictures import open_pictures
    from restok_cli.metrics.protocol import describe_features, describe_source
    from restok_cli.metrics.reference import open_reference

    torch_device = open_device(device)
    pictures = open_pictures(samples, split)
    target = open_reference(reference, split) if reference else None
    network = open_network(features, inception_weights, torch_device) if set(metrics) & set(FEATURE_METRICS) else None
    measurements = measure_pictures(pictures, target, metrics, network, batch_size)
    return measurements, {
        "samples": describe_source(pictures),
        "reference": describe_source(target) if target else None,
        "features": describe_features(network) if network else None,
        "device": str(torch_device),
    }


def _evaluate_codes(
    samples: str, split: str, model: Path | None, batch_size: int, device: str
) -> "tuple[dict[str, Measurement], dict]":
    """The same for codes, which are read from a file or, where there is a model, made of pictures."""
    from restok_cli.metrics.codebook import read_codes
    from restok_cli.metrics.measure import measure_codes
    from restok_cli.metrics.pictures import file_sha256
    from restok_cli.model.levels import is_power_of_two, level_sizes

    if model is None:
        path = Path(samples)
        if path.suffix != ".npz" or not path.is_file():
            raise UsageError(
                f"{samples} is no file of codes; give an .npz with codes and codebook_size, or pictures and --model M"
            )
        origin = {"source": samples, "fingerprint": file_sha256(path)}
        codes, codebook_size = read_codes(path)
    else:
        origin, codes, codebook_size = _encode(samples, split, model, batch_size, device)
    length = codes.shape[1]
    sizes = level_sizes(length) if is_power_of_two(length) else (length,)  # other tokenizers' codes are one level
    circumstances = {"samples": origin, "codebook_size": codebook_size, "level_sizes": sizes}
    return measure_codes(codes, codebook_size, sizes), circumstances


def _encode(samples: str, split: str, model: Path, batch_size: int, device: str) -> "tuple[dict, np.ndarray, int]":
    """Where pictures and model come from, the codes (n, L) that the tokenizer gives them, and its codebook size."""
    import torch

    from restok_cli.data.images import to_float
    from restok_cli.metrics.pictures import open_pictures
    from restok_cli.metrics.protocol import describe_source
    from restok_cli.model.checkpoint import fingerprint, load_tokenizer, open_tokenizer

    torch_device = open_device(device)
    tokenizer = load_tokenizer(model, torch_device)
    pictures = open_pictures(samples, split)
    pictures.crop_to(tokenizer.config.image_size)
    codes = []
    with Progress("encoding", pictures.count, "pictures") as progress, torch.inference_mode():
        for images in pictures.batches(batch_size):
            codes.append(tokenizer.encode(to_float(images.to(torch_device))).cpu())
            progress.advance(len(images))
    if not codes:
        raise RestokError(f"none of the pictures of {samples} could be read; there is nothing to measure")
    origin = describe_source(pictures) | {"model": str(model), "model_fingerprint": fingerprint(open_tokenizer(model))}
    return origin, torch.cat(codes).numpy(), tokenizer.config.codebook_size
