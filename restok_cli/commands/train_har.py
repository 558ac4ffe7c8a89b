"""`restok train-har`: the codes of a tokenizer to a generator."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from restok_cli.commands import options, runs
from restok_cli.commands.groups import grouped
from restok_cli.errors import UsageError
from restok_cli.processes import connect, local_device

if TYPE_CHECKING:
    from restok_cli.settings.training import HarRunConfig

TokenizerOption = Annotated[
    Path,
    typer.Option(
        parser=options.parse_model,
        metavar="M",
        help="A tokenizer: a run of train-tokenizer, a model folder, hf:owner/name, sample or photo.",
    ),
]


@grouped
def train_har(
    *,
    data: options.DataArgument,
    tokenizer: TokenizerOption,
    launch: runs.RunOptions,
) -> None:
    """Train a HAR generator, which draws the codes of an image level by level: 9 steps for 128 codes.

    DATA is a data set, which the tokenizer then encodes while training, or what
    `restok prepare codes` made of it. RUN gets the same files as with
    train-tokenizer; its model/ holds the tokenizer too, so that generate
    needs nothing else. Prints the folder of the model.

    Examples:

      restok train-har sample --tokenizer runs/tokenizer -o runs/har
      restok train-har sample --tokenizer runs/tokenizer -o runs/har --resume
    """
    told = runs.start("har", launch, tokenizer, launch.init)
    stated = told.config
    options.check_there("a data set, or what `restok prepare codes` made", data)
    from restok_cli.data.shards.code_cache import open_codes
    from restok_cli.data.shards.code_layout import is_codes
    from restok_cli.data.shards.dataset import open_dataset
    from restok_cli.pretrained.folder import open_har, open_tokenizer

    images = not is_codes(data)
    opened = open_dataset(data, launch.allow_pipe, stated.data.max_member_bytes) if images else open_codes(data)
    opened.split("train")
    folder = open_tokenizer(tokenizer)
    _check_image_size(launch.image_size, tokenizer, folder.config.image_size)
    given = open_har(launch.init) if launch.init is not None else None

    from restok_cli.accelerator import Sharding
    from restok_cli.devices import open_device
    from restok_cli.model.har import Har, HarBlock
    from restok_cli.planning.memory import check_memory
    from restok_cli.pretrained.modules import load_for_use
    from restok_cli.settings.run_config import complete_config, har_facts
    from restok_cli.training.code_source import EncodedImages, open_source
    from restok_cli.training.har_loop import train_har as train_loop
    from restok_cli.training.warm_start import say_other_classes

    torch_device = local_device(open_device(launch.device, stated.compute.deterministic))
    frozen = load_for_use(folder, torch_device).requires_grad_(False)
    source = open_source(opened, folder, frozen, torch_device)
    facts = har_facts(tokenizer, folder.config, data, len(source.class_names))
    run_config = complete_config(told, init=(launch.init, given.config) if launch.init and given else None, facts=facts)
    if isinstance(source, EncodedImages):
        runs.warn_of_enlarging(source.data, folder.config.image_size)
    else:
        runs.refuse_for_codes(data, told, launch.allow_pipe)
    check_memory(Har, run_config, torch_device)
    compute = cast("HarRunConfig", run_config).compute
    sharding = Sharding(HarBlock.__name__, compute.precision != "float32") if compute.sharding == "fsdp" else None
    connect(torch_device, sharding)  # after which the first process may write there
    start, origin = runs.first_weights(given, launch, run_config)
    if given and start:
        say_other_classes(given.class_names, source.class_names)
    train = partial(
        train_loop, source=source, tokenizer_folder=folder, tokenizer=frozen, device=torch_device, init=start
    )
    runs.carry_out(train, run_config, launch, torch_device, origin, told.rescaling)


def _check_image_size(stated: options.ImageSize | None, tokenizer: Path, needed: tuple[int, int]) -> None:
    """Raises UsageError where --image-size is not that of the tokenizer, (height, width), which a generator has too."""
    if stated not in (None, needed):
        raise UsageError(
            f"--image-size {stated}: the tokenizer {tokenizer} is for images of {options.ImageSize(*needed)}, and so is"
            " its generator; leave it out, or train a tokenizer first: restok train-tokenizer … --image-size"
            f" {stated} --init {tokenizer}"
        )
