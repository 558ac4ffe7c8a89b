"""How near `restok plan` comes to the memory and arithmetic of real steps on the CPU, each in a fresh process.

    python tests/benchmarks/planning.py

Prints, for each config, by how much the memory of the process rises in its second step, what was counted for that, and
the FLOPs of both. On a GPU, gpu.py does the same.
"""

import ctypes
import gc
import subprocess
import sys
from pathlib import Path

CONFIGS = {  # by name: trainer, preset, settings
    "tokenizer": ("tokenizer", "restok-s-128", "schedule.batch_size=1"),
    "tokenizer, small": ("tokenizer", "restok-s-128", "schedule.batch_size=2", "compute.memory=small"),
    "tokenizer, accumulated": ("tokenizer", "restok-s-128", "schedule.batch_size=2", "schedule.micro_batch_size=1"),
    "generator": ("har", "har-b", "schedule.batch_size=8"),
    "generator, small": ("har", "har-b", "schedule.batch_size=16", "compute.memory=small"),
}
STATUS = Path("/proc/self/status")


def main() -> None:
    if len(sys.argv) == 1:
        for name in CONFIGS:
            subprocess.run([sys.executable, __file__, name], check=True)
        return
    import torch

    from restok_cli.data.loading.loader import Batch
    from restok_cli.planning.counting import Counter
    from restok_cli.planning.plan import count, of_one_device, rounds_of
    from restok_cli.planning.steps import open_trainee, whole_step
    from restok_cli.settings.precedence import layers_of
    from restok_cli.settings.run_config import Told, complete_config
    from restok_cli.training import har_loop, tokenizer_loop
    from restok_cli.training.teachers import teacher_width
    from restok_cli.training.warm_start import recompute_activations

    kind, preset, *words = CONFIGS[sys.argv[1]]
    cpu = torch.device("cpu")
    config = complete_config(Told(kind, layers_of(kind, preset, None, words), "", None), teacher_width=teacher_width)
    config = of_one_device(config, 1)
    size, memory = config.schedule.micro_batch_size, config.compute.memory_on("cpu")
    if kind == "tokenizer":
        state, losses = open_trainee(config, cpu, memory)
        batch = Batch(torch.zeros(size, 3, *config.model.image_size, dtype=torch.uint8), torch.zeros(size))

        def step(number: int) -> None:
            tokenizer_loop.train_step(number, config, state, state.tokenizer, losses, iter(lambda: batch, None))

        numbers = whole_step(config), whole_step(config) + 1
    else:
        state = har_loop.HarState(config, cpu, None)
        recompute_activations(state.har, memory)
        coded = torch.zeros(size, dtype=torch.int64), torch.zeros(size, config.model.num_codes, dtype=torch.int64)

        def step(number: int) -> None:
            har_loop.train_step(number, config, state, state.har, iter(lambda: coded, None))

        numbers = 1, 2
    step(numbers[0])
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    step(numbers[1])
    rise = resident("VmHWM") - before
    with Counter() as real:
        step(numbers[1] + 1)
    counted = count(config, gpu=False)
    predicted, rounds = (counted.peak - counted.base) / 2**30, rounds_of(config)
    print(
        f"{sys.argv[1]}: rises by {rise:.2f} GiB, counted {predicted:.2f} ({predicted / rise - 1:+.1%}); "
        f"{real.flops / 1e9:.0f} GFLOP, counted {counted.flops / 1e9 * rounds / min(2, rounds):.0f}",
        flush=True,
    )


def resident(field: str) -> float:
    """GiB."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 2**20


if __name__ == "__main__":
    main()
