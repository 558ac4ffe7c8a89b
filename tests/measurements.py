"""Drawn images, and short ways to measure them."""

import torch
from PIL import Image

from restok_cli.data.images import save_image
from restok_cli.metrics.cache import FeatureCache
from restok_cli.metrics.image_sets import ImageSet
from restok_cli.metrics.measure import Instruments, measure
from restok_cli.metrics.networks.features import RandomNetwork
from restok_cli.metrics.reference import Reference

ALL_METRICS = ("gfid", "sfid", "is", "precision", "recall", "kid", "psnr", "ssim", "mse")


def draw_images(count, seed, size=16):
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=rng)
    return (torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear") * 255).to(torch.uint8)


def to_pil(image):
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def in_memory(images, keys=None):
    keys = keys or [f"{i:06d}" for i in range(len(images))]
    return ImageSet("memory", len(images), keys.__getitem__, lambda i: to_pil(images[i]))


def write_folder(folder, images):
    for i, image in enumerate(images):
        save_image(image, folder / f"{i:06d}.png")
    return folder


class Counting(RandomNetwork):
    """Counts the images that really go through it."""

    calls = 0

    def __call__(self, images):
        self.calls += 1
        return super().__call__(images)


def instruments(network=None, folder=None, batch_size=64):
    network = network or RandomNetwork()
    return Instruments([FeatureCache(folder, network)], torch.device("cpu"), batch_size)


def values(measurements):
    return {name: measurement.value for name, measurement in measurements.items()}


def measure_one(samples, reference, metrics=ALL_METRICS, tools=None):
    (found,) = measure([samples], Reference("memory", None, reference), list(metrics), tools or instruments())
    return values(found)


SETS = draw_images(40, seed=1), draw_images(40, seed=2)
