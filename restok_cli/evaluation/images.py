"""The metrics of pictures: what they are compared with, by which networks, and the protocol of it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restok_cli.console import counted, note
from restok_cli.processes import rank

if TYPE_CHECKING:
    import torch

    from restok_cli.metrics.measure import Instruments
    from restok_cli.metrics.pictures import Pictures
    from restok_cli.metrics.protocol import Measurement
    from restok_cli.metrics.reference import Reference


def open_instruments(
    features: str,
    weights: dict[str, Path | None],
    cache: Path | None,
    device: "torch.device",
    batch_size: int,
    metrics: list[str],
) -> "Instruments":
    """What measuring by these metrics needs, but for LPIPS, which may turn out not to be possible."""
    from restok_cli.metrics.backbones import open_network
    from restok_cli.metrics.cache import FeatureCache
    from restok_cli.metrics.measure import Instruments
    from restok_cli.metrics.table import METRICS

    if not any(name == "all" or METRICS[name].basis == "features" for name in metrics):
        return Instruments(None, None, device, batch_size)
    network = open_network(features, device, **weights)
    return Instruments(network, FeatureCache(cache, network), device, batch_size)


def open_both(
    samples: str, reference: str | None, split: str, crop: int | None, cache: Path | None, admitted: dict[str, int]
) -> "tuple[Pictures, Reference | None]":
    """SAMPLES, and what they are compared with where that is given; of both, as large files as are `admitted`."""
    from restok_cli.metrics.reference import open_reference

    target = open_reference(reference, split, cache, **admitted) if reference else None
    return _open(samples, split, crop, True, admitted), target


def evaluate_pictures(
    pictures: "Pictures",
    target: "Reference | None",
    metrics: list[str],
    instruments: "Instruments",
    vgg_weights: Path | None,
) -> "tuple[dict[str, Measurement], dict[str, Any]]":
    """The measurements, and the protocol they were made by. Of several processes only number 0 gets them."""
    from restok_cli.metrics.measure import choose_metrics, measure
    from restok_cli.metrics.pairs import align
    from restok_cli.metrics.table import METRICS

    metrics = choose_metrics(metrics, pictures, target, instruments, vgg_weights)
    paired = next((name for name in metrics if METRICS[name].against == "pairs"), None)
    if paired:
        target = align(target, pictures, paired)
    (measurements,) = measure([pictures], target, metrics, instruments)
    if rank() > 0:
        return {}, {}
    return measurements, describe_comparison(pictures, target, metrics, instruments)


def describe_comparison(
    pictures: "Pictures", target: "Reference | None", metrics: list[str], instruments: "Instruments"
) -> dict[str, Any]:
    """The protocol by which pictures were measured."""
    from restok_cli.metrics.protocol import describe_features, describe_pictures, describe_reference
    from restok_cli.metrics.table import METRICS

    of_features = any(METRICS[name].basis == "features" for name in metrics)
    return {
        "samples": describe_pictures(pictures),
        "reference": describe_reference(target) if target else None,
        "features": describe_features(instruments.network) if of_features else None,
        "lpips_weights_sha256": instruments.lpips.weights_sha256 if "lpips" in metrics else None,
    }


def write_statistics(
    data: str,
    split: str,
    crop: int | None,
    path: Path,
    num_pictures: int,
    instruments: "Instruments",
    admitted: dict[str, int],
) -> None:
    """Write statistics of pictures, and up to `num_pictures` of them, to `path`; print it."""
    from restok_cli.metrics.measure import feature_sums
    from restok_cli.metrics.reference import write_reference

    pictures, network = _open(data, split, crop, False, admitted), instruments.network
    sums = feature_sums(pictures, ["sfid"] if network.spatial_dimensions else [], instruments)
    if rank() > 0:
        return
    spatial = sums.spatial.gaussian() if sums.spatial else None
    kept = write_reference(path, pictures, network, sums.pool.gaussian(), spatial, num_pictures)
    note(f"statistics of {counted(len(pictures.digests), 'picture')} by {network.name}, and {kept} of the pictures")
    print(path)


def _open(source: str, split: str, crop: int | None, exact: bool, admitted: dict[str, int]) -> "Pictures":
    from restok_cli.metrics.pictures import open_pictures

    pictures = open_pictures(source, split, sys.stdin.buffer if source == "-" else None, exact, **admitted)
    if crop is not None:
        pictures.crop_to((crop, crop))
    return pictures
