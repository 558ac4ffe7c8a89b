"""The Python interface: a tokenizer and a generator that take and give images and codes, and print nothing.

What the commands compute, these compute by the same functions: the same bytes on the same machine. All that comes out
lies on the CPU.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal, TypedDict, Unpack

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from restok_cli.arguments import Images, class_words, dense_tensor, image_batches, model_path, settled, whole
from restok_cli.console import quiet
from restok_cli.data.classes import choose_classes, usual_names
from restok_cli.devices import chosen_dtype, open_device, torch_dtype
from restok_cli.errors import RestokError, UsageError, did_you_mean
from restok_cli.inference.blocks import GeneratedBlock, Job, generate_blocks, generate_steps
from restok_cli.inference.coding import choose_batch_size, decode_codes, encode_images
from restok_cli.inference.generate import find_files, load_models
from restok_cli.inference.mixing import keeping
from restok_cli.inference.sampling_options import default_preset, sampling_options
from restok_cli.machine import round_alike
from restok_cli.model.config import check_num_steps
from restok_cli.model.guidance import GuidanceSchedule
from restok_cli.model.har import Har
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained.folder import open_tokenizer
from restok_cli.pretrained.modules import load_for_use
from restok_cli.room import check_memory

__all__ = [
    "DecodedImages",
    "GeneratedImages",
    "ImageGenerator",
    "ImageTokenizer",
    "RestokError",
    "UsageError",
    "load_generator",
    "load_tokenizer",
]

Precision = Literal["auto", "float32", "bf16"]


class Sampling(TypedDict, total=False):
    """How codes are drawn: the options of `restok generate`, by the same names and with the same defaults."""

    cfg_scale: float  # classifier-free guidance; 1 = none
    cfg_schedule: GuidanceSchedule  # how guidance goes from 1 to its scale, or back, over the steps
    cfg_start: float  # where `step` and `rectangular` begin, of 0 … 1
    cfg_stop: float  # where `rectangular` ends
    cfg_peak: float  # where `triangular` and `linear-constant` are at their scale
    temperature: float  # below 1: safer; 0: always the likeliest code
    top_k: int  # draw from the k likeliest codes; 0 = all
    top_p: float  # draw from the likeliest codes that reach p


@dataclass(frozen=True, eq=False)
class DecodedImages:
    """Images that were made of codes."""

    images: np.ndarray  # uint8 (B, H, W, 3)
    codes: Tensor  # int64 (B, n), of which they were made

    def __len__(self) -> int:
        return len(self.images)

    def to_pil(self) -> list[Image.Image]:
        """The images for Pillow, in RGB."""
        return [Image.fromarray(image) for image in self.images]


@dataclass(frozen=True, eq=False)
class GeneratedImages(DecodedImages):
    """Images that were drawn."""

    class_ids: list[int]  # of each; places in the generator's `class_names`, and 0 where it has no classes


@settled()
def load_tokenizer(
    model: str | Path = "sample", *, device: str | torch.device = "auto", dtype: Precision = "auto"
) -> "ImageTokenizer":
    """Load a tokenizer.

    `model` is a model folder, a run of `restok train-tokenizer`, a generator that has its tokenizer with it,
    `hf:owner/name`, or `sample`, the one that comes with restok. `device` and `dtype` are those of the commands: `auto`
    is CUDA in bf16 where there is any, else the CPU in float32.

    Raises UsageError where there is no such model or device, RestokError where the model is damaged.
    """
    round_alike()
    folder, place = open_tokenizer(model_path("model", model)), open_device(str(device))
    module = load_for_use(folder, place, torch_dtype(chosen_dtype(str(dtype), place)))
    return ImageTokenizer(module, partial(load_tokenizer, model, device=device, dtype=dtype))


@settled()
def load_generator(
    model: str | Path = "sample",
    *,
    tokenizer: str | Path | None = None,
    device: str | torch.device = "auto",
    dtype: Precision = "auto",
) -> "ImageGenerator":
    """Load a generator with its tokenizer.

    `model` is a model folder, a run of `restok train-har`, `hf:owner/name`, or `sample`, the one that comes with
    restok. One that has no tokenizer with it, as the released ones, needs `tokenizer`. `device` and `dtype` are those
    of `load_tokenizer`.

    Raises UsageError where there is no such model, no tokenizer, another one than it was trained with, or no such
    device; RestokError where a model is damaged.
    """
    round_alike()
    path, place = model_path("model", model), open_device(str(device))
    files = find_files(path, None if tokenizer is None else model_path("tokenizer", tokenizer))
    har, module = load_models(files, place, chosen_dtype(str(dtype), place))
    assert module is not None  # which it is where only codes are wanted
    return ImageGenerator(
        har,
        ImageTokenizer(module, partial(load_tokenizer, tokenizer or model, device=device, dtype=dtype)),
        usual_names(files.har.class_names),
        default_preset(path),
        place,
        partial(load_generator, model, tokenizer=tokenizer, device=device, dtype=dtype),
    )


class ImageTokenizer:
    """Images to codes and back. `load_tokenizer` makes it."""

    def __init__(self, module: Tokenizer, load: "Callable[[], ImageTokenizer]"):
        self._module, self._load = module, load

    def __reduce__(self) -> tuple:
        """Copy and pickle the call that loads it: weights that were packed for a CPU cannot be."""
        return self._load, ()

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the images that it takes and gives."""
        return self._module.config.image_size

    @property
    def num_codes(self) -> int:
        """How many codes it makes of an image."""
        return self._module.config.num_latent_tokens

    @property
    def codebook_size(self) -> int:
        """Codes are numbers from 0 to this, which is not one."""
        return self._module.config.codebook_size

    @settled()
    def encode(self, images: Images, *, batch_size: int = 16) -> Tensor:
        """Turn images into codes: int64 (B, L), where L is `num_codes`.

        Paths and Pillow's images, one or a sequence of them, may be of any size: they get the centre crop of
        evaluation, as in `restok encode`. Arrays and tensors are taken as they are: uint8 (B, H, W, 3), or float
        (B, 3, H, W) from 0 to 1, where (H, W) is `image_size`.

        Raises UsageError for arrays of other shapes and values, RestokError where an image cannot be read.
        """
        batch_size = whole("batch_size", batch_size, least=1)
        batches = image_batches(images, self.image_size, batch_size)
        return torch.cat([encode_images(self._module, batch).cpu() for batch in batches])

    @settled()
    def decode(self, codes: Tensor | np.ndarray, *, batch_size: int = 16) -> DecodedImages:
        """Turn codes into images: integers (B, n), all codes of each or the first n of them, which give a coarser one.

        Raises UsageError for codes that cannot be this tokenizer's, RestokError where it makes
        numbers of them that are not finite.
        """
        batch_size = whole("batch_size", batch_size, least=1)
        rows = self._check_codes(codes)
        place = self._module.device
        names = (f"image {index}" for index in range(len(rows)))
        parts = [
            decode_codes(self._module, part.to(place)).checked([*islice(names, len(part))], self._module.dtype)
            for part in rows.split(batch_size)
        ]
        return DecodedImages(_to_array(torch.cat(parts)), rows)

    def mix(self, first: Images, second: Images, *, keep: int, batch_size: int = 16) -> DecodedImages:
        """Decode the first `keep` codes of the first images with the rest of the second ones', one by one.

        Raises what `encode` raises, and UsageError where there are not equally many of both.
        """
        keep = whole("keep", keep, least=1, most=self.num_codes)
        codes, others = (self.encode(images, batch_size=batch_size) for images in (first, second))
        if len(codes) != len(others):
            raise UsageError(f"{len(codes)} images cannot be mixed with {len(others)}; give equally many")
        return self.decode(torch.cat([codes[:, :keep], others[:, keep:]], 1), batch_size=batch_size)

    def _check_codes(self, codes: Tensor | np.ndarray) -> Tensor:
        """A copy of the codes as int64 on the CPU."""
        rows = dense_tensor(codes, "codes").cpu()
        if rows.ndim != 2 or rows.is_floating_point() or rows.is_complex() or rows.dtype == torch.bool:
            raise UsageError(f"codes are {rows.dtype} {tuple(rows.shape)}; give integers (B, n)")
        if rows.numel() == 0 or rows.shape[1] > self.num_codes:
            raise UsageError(
                f"codes are {tuple(rows.shape)}; give those of one image or more, 1 to {self.num_codes} of each"
            )
        rows = rows.to(torch.int64, copy=True)  # what becomes of the caller's own is not what was decoded
        if rows.min() < 0 or rows.max() >= self.codebook_size:
            raise UsageError(
                f"codes run from {rows.min()} to {rows.max()}, outside a codebook of {self.codebook_size}; give codes"
                " that this tokenizer made"
            )
        return rows


class ImageGenerator:
    """Classes to images. `load_generator` makes it."""

    def __init__(
        self,
        har: Har,
        tokenizer: ImageTokenizer,
        class_names: list[str],
        preset: str | None,
        device: torch.device,
        load: "Callable[[], ImageGenerator]",
    ):
        self._har, self._preset, self._device, self._load = har, preset, device, load
        self.tokenizer = tokenizer
        self.class_names = class_names  # empty where it has no classes

    def __reduce__(self) -> tuple:
        """Copy and pickle the call that loads it, as of a tokenizer."""
        return self._load, ()

    @property
    def num_steps(self) -> int:
        """How many steps it takes to draw all codes."""
        return check_num_steps(self._har.config, None)

    @settled()
    def generate(
        self,
        classes: str | int | Sequence[str | int] | None = None,
        *,
        count: int = 16,
        seed: int = 0,
        num_steps: int | None = None,
        batch_size: int = 16,
        like: Images | None = None,
        keep: int | None = None,
        preset: str | Path | None = None,
        **sampling: Unpack[Sampling],
    ) -> GeneratedImages:
        """Draw `count` images of these classes in turn, as `restok generate` draws them.

        A class is a name, a number or a synset, `all` or `random`; None is all in turn. Image i depends on the model,
        `seed`, i, its class and the sampling: not on how many others are drawn, and on a CPU not on `batch_size`.
        `num_steps` below all steps stop at a coarser level.

        Of `like`, one image as `ImageTokenizer.encode` takes it, the first `keep` codes are those of all images, and
        the rest is drawn; without classes they are then of none.

        `sampling` says how codes are drawn: cfg_scale, cfg_schedule, cfg_start, cfg_stop, cfg_peak, temperature, top_k,
        top_p, as in the class Sampling. Those that are left out come from `preset`: `paper`, `sample` or a file that
        `restok tune` wrote; where that is None, `sample` for the model that comes with restok, and for others none.

        Raises UsageError for unknown classes and for numbers that are out of range or have no meaning together.
        """
        job = self._job(classes, count, seed, num_steps, batch_size, like, keep, preset, sampling)
        return _as_generated(job, list(generate_blocks(job, job.blocks)))

    def stream(
        self,
        classes: str | int | Sequence[str | int] | None = None,
        *,
        count: int = 1,
        seed: int = 0,
        num_steps: int | None = None,
        like: Images | None = None,
        keep: int | None = None,
        preset: str | Path | None = None,
        **sampling: Unpack[Sampling],
    ) -> Iterator[GeneratedImages]:
        """Draw images as `generate` does, all in one batch, and give them after every step, decoded from their codes
        so far.

        Raises what `generate` raises, at once.
        """
        job = self._job(classes, count, seed, num_steps, count, like, keep, preset, sampling)
        blocks = generate_steps(job)
        return (_as_generated(job, [block]) for block in iter(settled()(partial(next, blocks, None)), None))

    @settled()
    def _job(
        self,
        classes: str | int | Sequence[str | int] | None,
        count: int,
        seed: int,
        num_steps: int | None,
        batch_size: int,
        like: Images | None,
        keep: int | None,
        preset: str | Path | None,
        sampling: Sampling,
    ) -> Job:
        count = whole("count", count, least=1)
        seed = whole("seed", seed, least=0, most=2**32 - 1)
        batch_size = whole("batch_size", batch_size, least=1)
        height, width = self.tokenizer.image_size
        check_memory("count", count, 3 * height * width)
        for name in sampling.keys() - Sampling.__annotations__.keys():
            known = did_you_mean(name, Sampling.__annotations__)
            raise TypeError(f"generate and stream take no argument named {name}{known}")
        if preset is not None and not isinstance(preset, str | Path):
            raise UsageError(f"preset is a {type(preset).__name__}; give a name, or the path of a file")
        options = sampling_options(sampling, self._preset if preset is None else preset)
        steps = None if num_steps is None else whole("num_steps", num_steps, least=1)
        steps = check_num_steps(self._har.config, steps)
        words = None if classes is None else class_words(classes)
        with quiet():  # which class a part of a name was taken for can be seen in what comes out
            class_ids = choose_classes(words, self.class_names, count, seed)
        module = self.tokenizer._module
        size = choose_batch_size(min(batch_size, count), module, self._device)
        job = Job(self._har, module, class_ids, self.class_names, seed, options, steps, size, self._device)
        if like is None and keep is None:
            return job
        if like is None or keep is None:
            raise UsageError("like and keep belong together; give both or none")
        keep = whole("keep", keep, least=1)
        codes = self.tokenizer.encode(like)
        if len(codes) != 1:
            raise UsageError(f"like is {len(codes)} images; give one")
        return keeping(job, codes[0], keep, classes is not None, sampling)


def _as_generated(job: Job, blocks: list[GeneratedBlock]) -> GeneratedImages:
    images, codes = (torch.cat([getattr(block, name) for block in blocks]) for name in ("images", "codes"))
    return GeneratedImages(_to_array(images), codes, job.class_ids)


def _to_array(images: Tensor) -> np.ndarray:
    """uint8 (B, 3, H, W) -> (B, H, W, 3)."""
    return images.permute(0, 2, 3, 1).contiguous().numpy()
