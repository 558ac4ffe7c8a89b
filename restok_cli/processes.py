"""Several processes that do one command together: how they are started, and what each knows of the others.

They are started by torch.distributed.run, here (`--num-processes`) or by the user (torchrun, accelerate launch, one
task each under SLURM); in every one of them the environment says which it is. Nothing here imports torch before it
has to.
"""

import atexit
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from restok_cli.errors import Failed, Interrupted, RestokError, UsageError

if TYPE_CHECKING:
    import torch

LAST_WORDS = "RESTOK_LAST_WORDS"  # names the folder in which those that `run_in_processes` starts leave theirs
SAVE_SECONDS = 600  # that processes get to save before they are killed


def rank() -> int:
    """The number of this process, 0 when it is alone. Results are printed by number 0."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes do this command together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def take_place() -> None:
    """Called first in every process: of several, only number 0 may print results.

    SLURM numbers the tasks of a step by names of its own; torch reads RANK, WORLD_SIZE and LOCAL_RANK.
    """
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if "RANK" not in os.environ and int(tasks) > 1:
        os.environ |= {
            "RANK": os.environ["SLURM_PROCID"],
            "LOCAL_RANK": os.environ["SLURM_LOCALID"],
            "WORLD_SIZE": tasks,
        }
    if rank() > 0:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  closed by the end of the process


def parse_num_processes(text: str | int) -> int:
    """The number that --num-processes gives; auto is one for each GPU. Raises UsageError."""
    text = str(text)  # a default is a number already
    if text == "auto":
        import torch

        return max(torch.cuda.device_count(), 1)
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--num-processes {text}: give a number from 1 on, or auto for one per GPU")
    return int(text)


def run_in_processes(count: int) -> None:
    """Start this command line `count` times, wait for all, and leave with their exit code; in them, just return.

    Also returns where one process is enough, and where somebody else has already started several. To be called before
    anything is written.

    Raises Failed where a process failed, Interrupted after a signal, once all have ended.
    """
    if count not in (1, world_size()) and "RANK" in os.environ:
        raise UsageError(f"--num-processes {count}: {world_size()} are started already; leave it out")
    if count == 1 or "RANK" in os.environ:
        return
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable(logging.CRITICAL)  # torch reports an ended process in forty lines; one line is said here
    os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(SAVE_SECONDS)
    # without this every process would take all cores, and they would stand in each other's way
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=f"restok-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    with TemporaryDirectory(prefix="restok-") as folder:
        os.environ[LAST_WORDS] = folder
        try:
            elastic_launch(config, sys.executable)("-m", "restok_cli", *sys.argv[1:])
        except ChildFailedError as error:
            exit_codes = {number: failure.exitcode for number, failure in error.failures.items()}
            raise _first_failure(exit_codes, _last_words(Path(folder))) from None
        except SignalException as error:
            first = _last_words(Path(folder)).get(0)
            raise Interrupted(error.sigval, first.text if first else "interrupted") from None
        finally:
            del os.environ[LAST_WORDS]
    raise Failed(0, "")


class Words(NamedTuple):
    """What a process says at its end, with what exit code, and when."""

    text: str
    code: int
    time_ns: int


def leave_words(text: str, code: int) -> bool:
    """Leave the last words of this process for the one that started it; false where nobody did.

    When one process fails, the others fail after it for want of an answer: only the first has something to say.
    """
    folder = os.environ.get(LAST_WORDS)
    if folder is not None:
        words = Path(folder) / f"{rank()}.json"
        words.with_suffix(".tmp").write_text(json.dumps([text, code, time.time_ns()]), encoding="utf-8")
        words.with_suffix(".tmp").rename(words)
    return folder is not None


def _last_words(folder: Path) -> dict[int, Words]:
    """By the number of the process."""
    return {int(file.stem): Words(*json.loads(file.read_text(encoding="utf-8"))) for file in folder.glob("*.json")}


def _first_failure(exit_codes: dict[int, int], words: dict[int, Words]) -> Failed:
    """What the process that failed first has to say. `exit_codes` are of those that failed, or were stopped for it."""
    for number, code in exit_codes.items():
        if number not in words and code not in (-signal.SIGTERM, 128 + signal.SIGTERM):
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            return Failed(1, f"process {number} {how} and said nothing; it may have run out of memory")
    failed = [said for said in words.values() if said.code < 128]
    first = min(failed or words.values(), key=lambda said: said.time_ns, default=Words("a process was stopped", 1, 0))
    return Failed(first.code, first.text)


def leave(code: int) -> NoReturn:
    """End a process that failed or was stopped: at once where there are others, which it must not wait for."""
    if code == 0 or world_size() == 1:
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def connect(device: "torch.device") -> None:
    """Join the other processes, if there are any. Raises RestokError where they cannot be reached."""
    import torch
    import torch.distributed as dist

    if world_size() == 1 or dist.is_initialized():
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        # gloo beside nccl: what is said between processes about the host shall not wait for the GPU
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise RestokError(f"the {world_size()} processes cannot reach each other ({reason})") from error
    atexit.register(dist.destroy_process_group)  # else gloo's threads end the program with an abort


def local_device(device: "torch.device") -> "torch.device":
    """The device of this process: where a machine has several GPUs, each of its processes has one of its own.

    Raises UsageError where there are fewer GPUs than processes.
    """
    import torch

    if device.type != "cuda" or world_size() == 1:
        return device
    seen, index = torch.cuda.device_count(), int(os.environ.get("LOCAL_RANK", "0"))
    if seen == 1 and "LOCAL_WORLD_SIZE" not in os.environ:  # SLURM may show each of its tasks one GPU only
        index = 0
    if index >= seen:
        raise UsageError(f"there are more processes on this machine than its {seen} GPUs; give --num-processes auto")
    return torch.device("cuda", index)


def gather(value: Any) -> list[Any]:
    """The picklable values of all processes, in the order of their numbers, in every one of them."""
    if world_size() == 1:
        return [value]
    import torch.distributed as dist

    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def barrier() -> None:
    """Wait until all processes are here."""
    gather(None)


class Agreement:
    """Whether any process was told to stop, which all learn at the same step, so that none waits for one that left.

    Each step's question is answered in the next one: the exchange runs beside the step, and costs it nothing.
    """

    def __init__(self) -> None:
        self.pending = None

    def __call__(self, mine: int) -> int:
        """Give this process's signal number (0: none); returns the largest that any had given at the step before."""
        if world_size() == 1:
            return mine
        import torch
        import torch.distributed as dist

        answer = 0
        if self.pending is not None:
            work, flag = self.pending
            work.wait()
            answer = int(flag)
        flag = torch.tensor(mine)
        self.pending = dist.all_reduce(flag, dist.ReduceOp.MAX, async_op=True), flag
        return answer
