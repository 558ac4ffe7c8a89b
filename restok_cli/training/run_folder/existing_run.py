"""A run that is in a folder already: how far it got, and whether another one may begin there. No torch here."""

import re
from contextlib import suppress
from pathlib import Path

from restok_cli.console import counted
from restok_cli.errors import RestokError, UsageError
from restok_cli.files import check_output_folder
from restok_cli.pretrained.folder import MODEL_FILES
from restok_cli.settings.recorded import read_config
from restok_cli.settings.training import CONFIG_FILE

CHECKPOINTS = "checkpoints"

# Every file that a run writes: what --overwrite may delete.
RUN_FILES = re.compile(
    r"config\.yaml|(metrics|starts)\.jsonl|log\.txt|previews/step-\d+\.png|(tensorboard|wandb)/.*"
    r"|checkpoints/step-\d+/(\w+\.safetensors|state\.pt|config\.yaml|checksums\.json)"
    rf"|(model|tokenizer|model/tokenizer)/({'|'.join(map(re.escape, MODEL_FILES))})"
    r"|(checkpoints/)?\..*\.(tmp|old)(/.*)?"
)


def checkpoints_in(folder: Path) -> list[Path]:
    """Oldest first. The number may have outgrown its six digits."""
    return sorted((path for path in folder.glob("step-*") if path.name[5:].isdecimal()), key=step_of)


def step_of(checkpoint: Path) -> int:
    """How many steps were done when it was written."""
    return int(checkpoint.name[5:])


def check_new_run(path: Path, overwrite: bool) -> None:
    """Check that a run may begin in the folder `path`. Raises UsageError, which says how far a run got that is there.

    --overwrite, which deletes its checkpoints, is not advised then.
    """
    if not overwrite and (max_steps := steps_of_run(path)):
        step = last_step(path)
        if step == max_steps:
            raise UsageError(
                f"{path} holds a run that has done all its {counted(step, 'step')}; give another folder, or --resume "
                "with a higher --max-steps where its learning rates allow that"
            )
        where = f"after step {step}" if step else "before its first checkpoint"
        raise UsageError(
            f"{path} holds a run of {counted(max_steps, 'step')} that stopped {where}; --resume goes on with it, and"
            " another run needs another folder"
        )
    check_output_folder(path, overwrite, RUN_FILES.fullmatch)


def check_begun(path: Path) -> None:
    """Raises UsageError where there is no run in the folder `path`."""
    if not (path / CONFIG_FILE).is_file():
        raise UsageError(f"{path} holds no run to resume; leave --resume out to start one there")


def steps_of_run(path: Path) -> int | None:
    """How long the run in a folder was to be; None where there is none."""
    with suppress(RestokError, KeyError, TypeError):
        return read_config(path / CONFIG_FILE)["schedule"]["max_steps"]
    return None


def last_step(run: Path) -> int:
    """The step of a run's last checkpoint, or 0 where there is none."""
    return max(map(step_of, checkpoints_in(run / CHECKPOINTS)), default=0)
