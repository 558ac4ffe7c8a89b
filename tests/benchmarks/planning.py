"""How near `restok plan` comes to the memory and arithmetic of real steps on the CPU, each in a fresh process.

    OMP_NUM_THREADS=1 python tests/benchmarks/planning.py [CONFIG]

Prints, for each config, what is counted of a step, and by how much the memory of the process rises in one: once where
every tensor has pages of its own, which go back to the system with it, and once as restok runs, where glibc keeps them
in one heap that has gaps. A quarter of an hour, and 8 GB of memory. On a GPU, gpu.py does the same.
"""

import ctypes
import gc
import subprocess
import sys
from time import process_time

from restok_cli.__main__ import keep_memory

CONFIGS = {  # by name: trainer, preset, settings
    "tokenizer": ("tokenizer", "restok-s-128", "schedule.batch_size=2"),
    "tokenizer, small": ("tokenizer", "restok-s-128", "schedule.batch_size=2", "compute.memory=small"),
    "tokenizer, accumulated": ("tokenizer", "restok-s-128", "schedule.batch_size=2", "schedule.micro_batch_size=1"),
    "generator": ("har", "har-b", "schedule.batch_size=8"),
    "generator, small, accumulated": (
        *("har", "har-b", "compute.memory=small", "schedule.batch_size=16", "schedule.micro_batch_size=8"),
    ),
}
M_MMAP_THRESHOLD, SMALL = -3, 1 << 16  # glibc's mallopt: from what size on a block has pages of its own
GIB = 1 << 30


def main() -> None:
    if len(sys.argv) == 3:  # a fresh process
        measure(*sys.argv[1:])
        return
    for name in sys.argv[1:] or CONFIGS:
        for heap in ("own pages", "one heap"):
            subprocess.run([sys.executable, __file__, name, heap], check=True)


def measure(name: str, heap: str) -> None:
    keep_memory() if heap == "one heap" else ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, SMALL)
    import torch

    from restok_cli.planning import highest
    from restok_cli.planning.configs import of_one_device, planned_config
    from restok_cli.planning.counting import Counter
    from restok_cli.planning.steps import count_step, open_har_step, open_tokenizer_step

    kind, preset, *words = CONFIGS[name]
    config = of_one_device(planned_config(kind, preset, None, words), 1)
    make = open_tokenizer_step if kind == "tokenizer" else open_har_step
    cpu = torch.device("cpu")
    *_, step = make(config, cpu, config.compute.memory_on("cpu"))
    with Counter() as real:
        step()  # which makes what the optimizer keeps
    gc.collect()
    before = highest.begin(cpu)
    start = process_time()
    step()
    rise, taken = highest.rise(before, cpu), process_time() - start
    seconds = f"{taken:.1f} s of processor time"
    if heap == "one heap":
        print(f"{name}: as restok runs, by {rise / GIB:.3f} GiB from {before / GIB:.3f}; {seconds}", flush=True)
        return
    counted = count_step(config, gpu=False)
    predicted = counted.peak - counted.base
    print(
        f"{name}: counted {predicted / GIB:.3f} GiB, memory rises by {rise / GIB:.3f} ({predicted / rise - 1:+.1%}); "
        f"counted {counted.flops / 1e9:.3f} GFLOP, of the real step {real.flops / 1e9:.3f}; {seconds}",
        flush=True,
    )


if __name__ == "__main__":
    main()
