"""The metrics of images: what they are compared with, by which networks, and the protocol of it."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from restok_cli.console import counted, note
from restok_cli.data.image_folders import IMAGE_REQUEST
from restok_cli.data.image_sizes import width_by_height
from restok_cli.data.images import to_float
from restok_cli.errors import RestokError, UsageError
from restok_cli.evaluation.request import Networks, Request
from restok_cli.evaluation.result import Evaluation
from restok_cli.metrics.cache import FeatureCache
from restok_cli.metrics.image_sets import GROUP_SIZE, ImageSet
from restok_cli.metrics.image_sources import open_images
from restok_cli.metrics.measure import Instruments, choose_metrics, feature_sums, measure
from restok_cli.metrics.networks.backbones import is_of_timm, open_network
from restok_cli.metrics.pairs import align, unique_keys
from restok_cli.metrics.protocol import Measurement, describe_features, describe_reference, versions
from restok_cli.metrics.reference import Reference, open_reference, write_reference
from restok_cli.metrics.table import METRICS
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained.folder import fingerprint, open_har
from restok_cli.processes import rank
from restok_cli.schema import Fields, read_json


def were_drawn_by(model: Path, folder: Path) -> bool:
    """Whether `generate` drew the images in a folder with this model."""
    with suppress(RestokError):
        return read_json(Fields, folder / IMAGE_REQUEST).get("model") == fingerprint(open_har(model))
    return False


def open_instruments(networks: Networks, metrics: list[str], device: torch.device) -> Instruments:
    """Open the instruments of these metrics, but for LPIPS, which may turn out not to be possible."""
    if not any(name == "all" or METRICS[name].basis == "features" for name in metrics):
        return Instruments([], device, networks.batch_size)
    of_timm, files = [name for name in networks.features if is_of_timm(name)], networks.timm_weights
    if of_timm and files and len(files) != len(of_timm):
        raise UsageError(
            f"--timm-weights: {counted(len(files), 'file')} for {', '.join(of_timm)}; give one for each in this order,"
            " or none"
        )
    weights = {"inception_weights": networks.inception_weights, "vgg_weights": networks.vgg_weights}
    given = dict(zip(of_timm, files, strict=False))
    opened = [open_network(name, device, timm_weights=given.get(name), **weights) for name in networks.features]
    return Instruments([FeatureCache(networks.cache, network) for network in opened], device, networks.batch_size)


def open_samples(request: Request, exact: bool = False) -> ImageSet:
    """SAMPLES; with `exact` they must be 8-bit RGB (see `open_images`)."""
    stdin = sys.stdin.buffer if request.samples == "-" else None
    images = open_images(request.samples, request.split, stdin, exact, request.max_pixels, request.max_bytes)
    if request.crop is not None:
        images.crop_to((request.crop, request.crop))
    return images


def evaluate_images(requests: list[Request], networks: Networks, device: torch.device) -> list[Evaluation]:
    """Measure each set of images against one reference, which is read once; the requests differ only in their samples.

    Raises UsageError where the sets are not of as many images of one size.
    """
    request, target = requests[0], None
    if request.reference:
        limits = request.max_pixels, request.max_bytes
        target = open_reference(request.reference, request.split, networks.cache, *limits)
    sets = [open_samples(each, exact=True) for each in requests]
    _check_alike(sets)
    instruments = open_instruments(networks, request.metrics, device)
    metrics = choose_metrics(request.metrics, sets[0], target, instruments, networks.vgg_weights)
    paired = next((name for name in metrics if METRICS[name].against == "pairs"), None)
    if paired and target:
        target = align(target, sets[0], paired)
        sets[1:] = [align(Reference(each.source, None, each), sets[0], paired).images or each for each in sets[1:]]
    keys = _keys(target, metrics) if request.per_image else []
    results = measure(sets, target, metrics, instruments)
    return [
        Evaluation(
            measurements,
            describe_comparison(images, target, metrics, instruments),
            _per_image(measurements, images, target, keys),
        )
        for images, measurements in zip(sets, results, strict=True)
    ]


def _check_alike(sets: list[ImageSet]) -> None:
    """Raises UsageError where sets that are to be measured together are not of as many images of one size."""
    first = sets[0]
    for other in sets[1:]:
        ours, theirs = (
            f"{counted(each.count, 'image')} of {width_by_height(each.find_size())}" for each in (first, other)
        )
        if ours != theirs:
            raise UsageError(
                f"{first.source} holds {ours} pixels, {other.source} {theirs}; several SAMPLES are runs of one method,"
                " and alike in that"
            )


def _keys(target: Reference | None, metrics: list[str]) -> list[str]:
    """The keys of the originals, by which the values of each image are found again.

    Raises UsageError where no metric compares image by image, RestokError where two have one key.
    """
    if target is None or target.images is None or not any(METRICS[name].basis == "pixels" for name in metrics):
        raise UsageError("--per-image: these inputs allow no metric that compares image by image; leave it out")
    return unique_keys(target.images)


def _per_image(
    measurements: dict[str, Measurement], images: ImageSet, target: Reference | None, keys: list[str]
) -> dict[str, dict[str, float]]:
    """The values of each image whose original could be read, too; {} where there are no keys."""
    if not keys or target is None or target.images is None:
        return {}
    seen = [keys[index] for index in sorted(images.digests.keys() & target.images.digests.keys())]
    found = {name: measurement.per_image for name, measurement in measurements.items() if measurement.per_image}
    return {name: dict(zip(seen, values, strict=True)) for name, values in found.items()}


def describe_comparison(
    images: ImageSet, target: Reference | None, metrics: list[str], instruments: Instruments
) -> dict[str, Any]:
    """The protocol by which images were measured."""
    lpips = instruments.lpips
    of_features = any(METRICS[name].basis == "features" for name in metrics)
    features = {network.name: describe_features(network) for network in instruments.networks if of_features}
    return {
        "samples": images.describe(),
        "reference": describe_reference(target) if target else None,
        "features": features if len(features) > 1 else next(iter(features.values()), None),
        "lpips_weights_sha256": lpips.weights_sha256 if lpips and "lpips" in metrics else None,
    }


def write_statistics(
    request: Request, networks: Networks, device: torch.device, path: Path, num_images: int
) -> dict[str, Any]:
    """Write statistics of SAMPLES, and up to `num_images` of them, to `path`.

    Returns how many images are behind them and how many are kept, and the protocol; nothing but in process 0.
    """
    if len(networks.features) > 1:
        raise UsageError("--make-reference makes statistics of one network's features; give one --features")
    images = open_samples(request)
    sums = feature_sums(images, ["sfid"], open_instruments(networks, ["sfid"], device))
    if rank() > 0:
        return {}
    network, gaussian = sums.network, sums.cloud().gaussian
    spatial = sums.spatial_cloud().gaussian if network.spatial_dimensions else None
    kept = write_reference(path, images, network, gaussian, spatial, num_images)
    count = len(images.digests)
    note(f"statistics of {counted(count, 'image')} by {network.name}, and {kept} of the images")
    protocol = {"reference": images.describe(), "features": describe_features(network), "versions": versions()}
    return {"images": count, "images_kept": kept, "protocol": protocol}


def encode_group(tokenizer: Tokenizer, images: Tensor, device: torch.device) -> Tensor:
    """The codes (GROUP_SIZE, L) of a group of images, uint8 (B, 3, H, W): the first B are theirs, the others padding.

    For another number of images, libraries may sum in another order.
    """
    return tokenizer.encode(pad(to_float(images.to(device)), (0, 0, 0, 0, 0, 0, 0, GROUP_SIZE - len(images))))
