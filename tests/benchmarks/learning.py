"""Whether a tokenizer learns as well by one state of restok as by another.

    python tests/benchmarks/learning.py REPO [REPO …] [--steps 600] [--every 100] [--set KEY=VALUE …]

Trains the preset `sample` on the emoji that come with restok by each of these checkouts, one after the other and all
from the same seed, up to step `--steps` of the preset's schedule, and prints the PSNR of the held-out images, in dB,
every so many steps. A line of a checkout's own begins with its last commit. To compare a recipe with the one before it:

    git worktree add /tmp/before COMMIT
    python tests/benchmarks/learning.py /tmp/before . --set data.crop=…

On two cores of 2026 a step takes about a second.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path


def last_commit(repo: Path) -> str:
    command = ("git", "-C", repo, "log", "-1", "--format=%h %s")
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def train(repo: Path, run: Path, steps: int, every: int, settings: list[str]) -> dict[int, float]:
    """PSNR by step."""
    command = [sys.executable, "-m", "restok_cli", "train-tokenizer", "sample", "--preset", "sample", "-o", run]
    command += ["--stop-at", str(steps), "--skip-preflight"]
    for setting in (f"schedule.validate_every={every}", *settings):
        command += ["--set", setting]
    # from the run's folder, which holds no restok_cli that would be taken instead
    environment = os.environ | {"PYTHONPATH": str(repo.resolve())}
    subprocess.run(command, check=True, cwd=run.parent, env=environment, stdout=sys.stderr)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["validation_psnr"] for line in lines if "validation_psnr" in line}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("repos", nargs="+", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for number, repo in enumerate(options.repos):
            curve = train(repo, Path(folder) / str(number), options.steps, options.every, options.settings)
            print(last_commit(repo))
            print(" · ".join(f"{step}: {psnr:.2f}" for step, psnr in curve.items()), flush=True)


if __name__ == "__main__":
    main()
