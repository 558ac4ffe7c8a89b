"""How many emoji that the sample model draws can be told, and how many of them it knows by heart.

    python tests/benchmarks/remembering.py

Two images of every class, at half their size, beside the 1,704 that the model was trained on: in how many cases the
nearest of those is of the class asked for, how near it is, and how many different ones there are. By the options that
`restok generate` takes with this model, and by some others. Takes some minutes.
"""

from restok_cli.__main__ import keep_memory
from restok_cli.machine import round_alike

round_alike()  # as every restok command does first
keep_memory()

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

from restok_cli.data.images import to_float  # noqa: E402
from restok_cli.data.loading.loader import evaluation_batches  # noqa: E402
from restok_cli.data.shards.dataset import open_dataset  # noqa: E402
from restok_cli.files import SAMPLE_MODEL  # noqa: E402
from restok_cli.inference.coding import decode_codes  # noqa: E402
from restok_cli.inference.sampling_options import PRESETS  # noqa: E402
from restok_cli.model.sampling import SamplingOptions, sample, seeded_uniforms  # noqa: E402
from restok_cli.pretrained.folder import find_tokenizer, open_har  # noqa: E402
from restok_cli.pretrained.modules import load_for_use  # noqa: E402

OPTIONS = (
    PRESETS["sample"],
    {},
    *({"cfg_scale": scale, "temperature": 0.6} for scale in (1, 1.5, 2)),
    *({"cfg_scale": 1.5, "temperature": temperature} for temperature in (0.5, 0.4, 0.3)),
)
PER_CLASS = 2


def small(images: torch.Tensor) -> torch.Tensor:
    """Images (B, 3, 64, 64) uint8 -> (B, 3 · 32 · 32) in [0, 1]."""
    return F.avg_pool2d(to_float(images), 2).flatten(1)


class Memory:
    """The sample model, and the images that it was trained on."""

    def __init__(self) -> None:
        folder, device = open_har(SAMPLE_MODEL), torch.device("cpu")
        self.har, self.tokenizer = (
            load_for_use(found, device) for found in (folder, find_tokenizer(folder, SAMPLE_MODEL, None))
        )
        split = open_dataset("sample").split("train")
        batches = list(evaluation_batches(split, image_size=(64, 64), batch_size=100))
        self.known = small(torch.cat([batch.images for batch in batches]))
        self.known_classes = torch.cat([batch.class_ids for batch in batches])

    @torch.inference_mode()
    def nearest(self, options: SamplingOptions, wanted: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """For images of the classes `wanted` (B,): the number of the nearest known one, and the distance to it."""
        uniforms = seeded_uniforms(seed, 0, len(wanted), self.har.config.num_codes)
        drawn = small(decode_codes(self.tokenizer, sample(self.har, wanted, uniforms, options)).images)
        distances, nearest = torch.cdist(drawn, self.known).min(1)
        return nearest, distances


def main() -> None:
    memory = Memory()
    wanted = torch.arange(memory.har.config.num_classes).repeat(PER_CLASS)
    for options in OPTIONS:
        nearest, distances = memory.nearest(SamplingOptions(**options), wanted, 0)
        decibels = -20 * torch.log10(distances / memory.known.shape[1] ** 0.5)
        own = (memory.known_classes[nearest] == wanted).float().mean()
        print(
            f"{options or 'no options'}: the nearest of {own:.0%} is of the class asked for; {decibels.median():.1f} dB"
            f" to the nearest (median); {len(nearest.unique())} different nearest of {len(nearest)} images",
            flush=True,
        )


if __name__ == "__main__":
    main()
