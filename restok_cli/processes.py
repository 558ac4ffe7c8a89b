"""Several processes that do one command together: how they are started, and what each knows of the others.

They are started by torch.distributed.run, here (`--num-processes`) or by the user (torchrun, accelerate launch, one
task each under SLURM); in every one of them the environment says which it is. What they do together goes through one
Accelerator, which reads the same numbers. Nothing here imports torch or Accelerate before it has to.
"""

import atexit
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import gcd
from pathlib import Path
from select import select
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from restok_cli.errors import Done, Failed, Interrupted, RestokError, UsageError
from restok_cli.machine import available_cores

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from restok_cli.accelerator import Sharding

# Forked workers need not import torch again, as Python 3.14's own choice would have it; elsewhere forking is not safe.
START_METHOD = "fork" if sys.platform == "linux" else "spawn"
LAST_WORDS = "RESTOK_LAST_WORDS"  # names the folder in which those that `run_in_processes` starts leave theirs
SLURM_SHELL = ("SLURM_PTY_PORT", "SLURM_PTY_WIN_COL")  # what `srun --pty` sets, also for what has no terminal any more
MPI_NAMES = (  # of Open MPI, Intel MPI and MPICH, MVAPICH: a process's number, how many, and its number on the machine
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK"),
)
SAVE_SECONDS = 600  # that processes get to save before they are killed
QUIET_SECONDS, JOIN_SECONDS = 10, 600  # for which a process waits for the others: at first without a word

joined: list["Accelerator"] = []  # the one, once this process has joined the others


def rank() -> int:
    """The number of this process, 0 when it is alone. Results are printed by number 0."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes do this command together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def take_place() -> None:
    """Called first in every process: find out which of how many it is. Of several, only number 0 may print results.

    torch reads RANK, WORLD_SIZE and LOCAL_RANK; SLURM, and MPI under `accelerate launch`, have names of their own. A
    RANK without a WORLD_SIZE above 1 is somebody else's. So are SLURM's numbers in the shell of `srun --pty`: that is a
    task among others too, but who types there means one process.

    Raises UsageError where the numbers are none.
    """
    if "ACCELERATE_MIXED_PRECISION" in os.environ:  # `accelerate launch`, which by mpirun numbers nothing itself
        for names in MPI_NAMES:
            if _number(names[1], 1) > 1:
                for name, theirs in zip(("RANK", "WORLD_SIZE", "LOCAL_RANK"), names, strict=True):
                    os.environ.setdefault(name, str(_number(theirs, 0)))
    size = _number("WORLD_SIZE", 1)
    if not os.environ.get("RANK") and _number("SLURM_STEP_NUM_TASKS", 1) > 1 and not in_shell_of_slurm():
        size = _number("SLURM_STEP_NUM_TASKS", 1)
        os.environ["RANK"] = str(_number("SLURM_PROCID", size))
        os.environ["LOCAL_RANK"] = str(_number("SLURM_LOCALID", 0))
        os.environ["WORLD_SIZE"] = str(size)
    if size <= 1:
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
            os.environ.pop(name, None)
    elif _number("RANK", size) >= size:
        raise UsageError(f"WORLD_SIZE={size} and RANK={os.environ.get('RANK', '')}: expected a RANK below WORLD_SIZE")
    if rank() > 0:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  closed by the end of the process


def _number(name: str, missing: int) -> int:
    """The number that an environment variable holds, `missing` where it is not set or empty. Raises UsageError."""
    text = os.environ.get(name) or str(missing)
    if not text.isdecimal():
        raise UsageError(f"{name}={text}: expected a number; unset it to work in one process")
    return int(text)


def in_shell_of_slurm() -> bool:
    """Whether this is started from a shell that SLURM runs, rather than by SLURM as one of several tasks."""
    return any(name in os.environ for name in SLURM_SHELL) or has_terminal()


def has_terminal() -> bool:
    """Whether somebody can interrupt this process from a terminal, whatever its output is connected to."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        return False
    return True


def restok_words(*words: str) -> tuple[str, ...]:
    """The command line `restok …` for a process of its own.

    Python would put the current folder on the path of `-m`, and import a random.py there in the place of its own. -P
    keeps it off, but where restok itself lies there and is not installed.
    """
    in_place = Path(__file__).parent.parent.samefile(os.curdir)
    return (sys.executable, *(() if in_place else ("-P",)), "-m", "restok_cli", *words)


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
    """Start this command line `count` times and wait for all; in each of them, just return.

    Also returns where one process is enough, and where somebody else has already started several. To be called before
    anything is written.

    Raises, once all have ended, Done where they did the work, Failed where one failed, Interrupted after a signal.
    """
    if world_size() > 1:
        if count not in (1, world_size()):
            raise UsageError(f"--num-processes {count}: {world_size()} are started already; leave it out")
        if missing := [name for name in ("MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]:
            raise UsageError(
                f"{world_size()} processes are started to share this work, by SLURM or by RANK and WORLD_SIZE, but"
                f" {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set: export the host of the first"
                " one and a free port there; to work alone, unset SLURM_STEP_NUM_TASKS and WORLD_SIZE"
            )
    if count == 1 or world_size() > 1:
        return
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable(logging.CRITICAL)  # torch reports an ended process in forty lines; one line is said here
    os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(SAVE_SECONDS)
    # without this every process would take all cores, and they would stand in each other's way
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // count)))
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
            elastic_launch(config, sys.executable)(*restok_words(*sys.argv[1:])[1:])
        except ChildFailedError as error:
            exit_codes = {number: failure.exitcode for number, failure in error.failures.items()}
            raise _first_failure(exit_codes, _last_words(Path(folder))) from None
        except SignalException as error:
            first = _last_words(Path(folder)).get(0)
            raise Interrupted(error.sigval, first.text if first else "interrupted") from None
        finally:
            del os.environ[LAST_WORDS]
    raise Done


class Words(NamedTuple):
    """The last message of a process, with its exit code and the time."""

    text: str
    code: int
    time_ns: int


def leave_words(text: str, code: int) -> bool:
    """Leave the last words of this process for the one that started it; false where nobody did, or they cannot be left.

    When one process fails, the others fail after it for want of an answer: only the first has something to say.
    """
    if LAST_WORDS not in os.environ:
        return False
    words = Path(os.environ[LAST_WORDS]) / f"{rank()}.json"
    try:
        words.with_suffix(".tmp").write_text(json.dumps([text, code, time.time_ns()]), encoding="utf-8")
        words.with_suffix(".tmp").rename(words)
    except OSError:  # the disk for temporary files is full, or somebody has cleared it: then it says them itself
        return False
    return True


def is_said_by_first() -> bool:
    """Whether process 0 says what is wrong with this command line: then all are stopped by who started them.

    Waits for that. It does not come where this process alone is at fault, or whoever started it minds nothing.
    """
    try:
        time.sleep(QUIET_SECONDS)
    except Interrupted:
        return True
    return False


def _last_words(folder: Path) -> dict[int, Words]:
    """By the number of the process."""
    return {int(file.stem): Words(*json.loads(file.read_text(encoding="utf-8"))) for file in folder.glob("*.json")}


def _first_failure(exit_codes: dict[int, int], words: dict[int, Words]) -> Failed:
    """The message of the process that failed first. `exit_codes` are of those that failed, or were stopped for it."""
    for number, code in exit_codes.items():
        if number not in words and code not in (-signal.SIGTERM, 128 + signal.SIGTERM):
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            return Failed(1, f"process {number} {how} and said nothing; it may have run out of memory")
    failed = [said for said in words.values() if said.code < 128]
    first = min(failed or words.values(), key=lambda said: said.time_ns, default=Words("a process was stopped", 1, 0))
    return Failed(first.code, first.text)


def leave(code: int) -> NoReturn:
    """End this process: at once where there are others, for which one that failed or was stopped must not wait.

    One that succeeded tidies up as at any end, but does not wait for torch's threads, which sometimes abort it then.
    """
    if world_size() == 1:
        sys.exit(code)
    if code == 0:
        atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def connect(device: "torch.device", sharding: "Sharding | None" = None) -> None:
    """Join the other processes, if there are any; `sharding` is how a model that they train is cut, if it is.

    Raises RestokError where they cannot be reached.
    """
    if world_size() == 1 or joined:
        return
    import torch.distributed as dist

    from restok_cli.accelerator import make_accelerator

    try:
        with waiting_for_others():
            made = make_accelerator(device, sharding)
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise RestokError(f"the {world_size()} processes cannot reach each other ({reason})") from error
    atexit.register(dist.destroy_process_group)  # else gloo's threads end the program with an abort
    if (made.process_index, made.num_processes) != (rank(), world_size()):
        raise RestokError(
            f"Accelerate takes this for process {made.process_index} of {made.num_processes}, and RANK and WORLD_SIZE "
            f"for {rank()} of {world_size()}; start the processes in one way only"
        )
    joined.append(made)


def accelerator() -> "Accelerator":
    """That of the processes that `connect` joined."""
    return joined[0]


@contextmanager
def waiting_for_others() -> Iterator[None]:
    """For a block in which torch waits for the other processes, where Python hears no signals: a thread does.

    On a signal, and after JOIN_SECONDS, this process says so and ends at once: it has written nothing yet.
    """
    hearing, telling = os.pipe()
    os.set_blocking(telling, False)
    before = signal.set_wakeup_fd(telling, warn_on_full_buffer=False)
    thread = threading.Thread(target=_watch, args=(hearing,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(telling)  # which the thread takes for the end
        thread.join()
        os.close(hearing)


def _watch(hearing: int) -> None:
    """Wait for the number of a signal, or for the end, at one end of a pipe."""
    where = f"at {os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    heard = select([hearing], [], [], QUIET_SECONDS)[0]
    if not heard:  # any of them may be the only one that was started
        print(f"process {rank()} waits for the other {world_size() - 1} {where}", file=sys.stderr, flush=True)
        heard = select([hearing], [], [], JOIN_SECONDS)[0]
    if not heard:
        what = f"process {rank()} of {world_size()} waited {JOIN_SECONDS // 60} minutes for the others {where}"
        _end_now(f"{what}; are all of them started, and can they reach it?", 1)
    if number := int.from_bytes(os.read(hearing, 1)):
        _end_now("interrupted", 128 + number)


def _end_now(text: str, code: int) -> NoReturn:
    if not leave_words(text, code) and (rank() == 0 or code < 128):
        print(f"restok: {text}", file=sys.stderr, flush=True)
    os._exit(code)


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
        raise UsageError(f"there are more processes on this machine than GPUs ({seen}); give --num-processes auto")
    return torch.device("cuda", index)


def check_division(batch_size: int, micro_batch_size: int | None, world_size: int) -> int:
    """The number of images in a micro-batch: as given, or all of a process's share of the batch.

    Raises UsageError where the batch cannot be cut into micro-batches of that size, as many for each process.
    """
    size = micro_batch_size or max(batch_size // world_size, 1)
    if batch_size % (size * world_size):
        smaller = gcd(size, batch_size // world_size)
        way_out = f" or --set schedule.micro_batch_size={smaller}" if batch_size % world_size == 0 else ""
        raise UsageError(
            f"a batch of {batch_size} cannot be cut into micro-batches of {size} for {world_size} process"
            f"{'es' if world_size > 1 else ''}; make the batch size a multiple of {size * world_size}{way_out}"
        )
    return size


def gather(value: Any) -> list[Any]:
    """The picklable values of all processes, in the order of their numbers, in every one of them."""
    if world_size() == 1:
        return [value]
    from accelerate.utils import gather_object

    return gather_object([value])


def check_alike(facts: dict[str, Any]) -> None:
    """Raises RestokError where a process has other facts than the first: then they would not do one work together."""
    first, *others = gather(facts)
    for number, theirs in enumerate(others, start=1):
        if wrong := [name for name, value in first.items() if theirs[name] != value]:
            raise RestokError(
                f"process {number} has another {wrong[0]} than process 0; start all with the same command, on a folder "
                "and data that all of them see"
            )


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
