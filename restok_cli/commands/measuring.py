"""Options of `restok evaluate` that belong together: what is measured, through which networks, and references."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restok_cli.commands.options import (
    AnySplit,
    Cache,
    ImagesHeld,
    InceptionWeights,
    MaxDecodedPixels,
    MaxMemberBytes,
    NoCache,
    VggWeights,
    features_folder,
    parse_model,
)
from restok_cli.files import MAX_DECODED_PIXELS, MAX_MEMBER_BYTES
from restok_cli.metrics.table import CHOICES

if TYPE_CHECKING:
    from restok_cli.evaluation.request import Networks, Request

FORMS = (
    "a folder of images or tars, an ADM .npz, a tar, a data set (or the word sample), - for a tar stream on stdin, or a"
    " file of codes"
)
MetricNames = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        metavar="NAME",
        help=f"One of {', '.join(CHOICES)}, or all that the inputs allow; may be repeated. Default: gfid.",
        autocompletion=lambda incomplete: [name for name in (*CHOICES, "all") if name.startswith(incomplete)],
    ),
]
ReferenceName = Annotated[
    str | None,
    typer.Option(
        "--reference",
        metavar="REF",
        help="What to compare with: the same forms, statistics (.npz: mu, sigma), or a name --make-reference gave.",
    ),
]
Crop = Annotated[
    int | None, typer.Option(min=8, metavar="SIZE", help="First give SAMPLES the ADM centre crop to this size.")
]
NetworkNames = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NETWORK",
        help="Behind the metrics of features: inception (the default), dinov2, clip, vgg16, timm:NAME; random needs no"
        " download: smoke tests only. May be repeated: one reading of the images for all, keys such as gfid\\[dinov2].",
    ),
]
TimmWeights = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Weights of dinov2, clip or timm:NAME; of several networks, repeated in the order of their --features.",
    ),
]
AnyModel = Annotated[
    Path | None,
    typer.Option(
        parser=parse_model,
        metavar="M",
        help="The tokenizer that makes codes of images (codebook, --num-codes, --perturb); for nll the generator."
        " Default: sample, the one of emoji that comes with restok.",
    ),
]
NumCodes = Annotated[
    str | None,
    typer.Option(
        metavar="N,N,…", help="Measure what the first N codes give back of SAMPLES, for each N; all: every level."
    ),
]
Perturb = Annotated[
    str | None,
    typer.Option(
        metavar="SHARE,…",
        help="Measure pfid: SAMPLES against what --model decodes once this share α of their codes was replaced.",
    ),
]
Nearest = Annotated[
    str | None,
    typer.Option(metavar="N,N,…", help="With --perturb: δ, of how many codewords nearest to a code one replaces it."),
]
PerImage = Annotated[
    bool,
    typer.Option("--per-image", help="With --json: also each image's value (psnr, …); --compare then goes by pairs."),
]
MakeReference = Annotated[
    str | None,
    typer.Option(metavar="DATA", help="Make statistics of images for --reference instead; they go to -o."),
]
ReferenceOutput = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="REF", help="With --make-reference: an .npz, or a name for the cache."),
]
KeptImages = Annotated[
    int,
    typer.Option(
        "--reference-images",
        min=0,
        help="With --make-reference: images to keep, for precision, recall and kid.",
    ),
]


@dataclass
class Measuring:
    """The metrics, and the images and codes that they are taken of."""

    metric: MetricNames = None
    reference: ReferenceName = None
    split: AnySplit = "validation"
    crop: Crop = None
    max_decoded_pixels: MaxDecodedPixels = MAX_DECODED_PIXELS
    max_member_bytes: MaxMemberBytes = MAX_MEMBER_BYTES
    model: AnyModel = None
    num_codes: NumCodes = None
    perturb: Perturb = None
    nearest: Nearest = None
    per_image: PerImage = False

    def request(self, samples: str) -> "Request":
        from restok_cli.evaluation.request import Request, parse_perturbations

        return Request(
            *(samples, self.metric or [], self.split, self.crop, self.reference, self.model, self.num_codes),
            *(self.max_decoded_pixels, self.max_member_bytes, self.per_image),
            parse_perturbations(self.perturb, self.nearest),
        )


@dataclass
class Seeing:
    """The networks whose features are measured, and where these are kept."""

    features: NetworkNames = None
    inception_weights: InceptionWeights = None
    vgg_weights: VggWeights = None
    timm_weights: TimmWeights = None
    cache: Cache = None
    no_cache: NoCache = False
    batch_size: ImagesHeld = 64

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.features or ["inception"]))

    def networks(self) -> "Networks":
        from restok_cli.evaluation.request import Networks

        weights = self.inception_weights, self.vgg_weights, tuple(self.timm_weights or ())
        return Networks(self.names, *weights, features_folder(self.cache, self.no_cache), self.batch_size)

    @property
    def given(self) -> dict[str, object]:
        """Weights by the options that name them."""
        return {f"--{name.replace('_', '-')}": file for name, file in vars(self).items() if name.endswith("_weights")}


@dataclass
class MakingReference:
    """Statistics to be made in place of a measurement."""

    make_reference: MakeReference = None
    output: ReferenceOutput = None
    reference_images: KeptImages = 10_000
