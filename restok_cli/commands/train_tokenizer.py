"""`restok train-tokenizer`: images to a tokenizer."""

from functools import partial
from typing import TYPE_CHECKING, cast

from restok_cli.commands import options, runs
from restok_cli.commands.groups import grouped
from restok_cli.processes import connect, local_device

if TYPE_CHECKING:
    from restok_cli.settings.training import TokenizerRunConfig


@grouped
def train_tokenizer(
    *,
    data: options.DataArgument,
    launch: runs.RunOptions,
) -> None:
    """Train a tokenizer: images to codes in coarse-to-fine levels, and back.

    RUN gets config.yaml, metrics.jsonl, log.txt, checkpoints/, previews/ (look at
    them) and model/, which the other commands take. Ctrl-C saves before it stops;
    the same command with --resume goes on as if nothing had happened. Prints the
    folder of the model. `restok config show` prints all settings that --config
    and --set may change.

    Examples, on the emoji that come with restok:

      restok train-tokenizer sample --max-steps 500 -o runs/tokenizer
      restok train-tokenizer data/photos --init photo --image-size 96 -o new
    """
    told = runs.start("tokenizer", launch, launch.init)
    stated = told.config

    from restok_cli.data.shards.dataset import open_dataset
    from restok_cli.pretrained.folder import open_tokenizer

    dataset = open_dataset(data, launch.allow_pipe, stated.data.max_member_bytes)
    dataset.split("train")
    given = open_tokenizer(launch.init) if launch.init is not None else None

    from restok_cli.devices import open_device
    from restok_cli.model.tokenizer import Tokenizer
    from restok_cli.planning.memory import check_memory
    from restok_cli.settings.run_config import complete_config
    from restok_cli.training.losses import open_tokenizer_losses
    from restok_cli.training.teachers import teacher_width
    from restok_cli.training.tokenizer_loop import train_tokenizer as train_loop

    source = (launch.init, given.config) if launch.init and given else None
    run_config = cast("TokenizerRunConfig", complete_config(told, init=source, teacher_width=teacher_width))
    torch_device = local_device(open_device(launch.device, stated.compute.deterministic))
    runs.warn_of_enlarging(dataset, run_config.model.image_size)
    check_memory(Tokenizer, run_config, torch_device)
    connect(torch_device)  # after which the first process may write there
    start, origin = runs.first_weights(given, launch, run_config)
    losses = open_tokenizer_losses(run_config, torch_device)
    train = partial(train_loop, data=dataset, losses=losses, device=torch_device, init=start)
    runs.carry_out(train, run_config, launch, torch_device, origin, told.rescaling)
