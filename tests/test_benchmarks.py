"""The benchmark for GPUs, which machines for the tests do not have, runs from its first section to its last."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

GPU = Path(__file__).parent / "benchmarks" / "gpu.py"


@pytest.mark.slow
def test_gpu_benchmark_runs_all_its_sections_with_tiny_sizes_on_the_cpu(tmp_path):
    subprocess.run([sys.executable, GPU, "--smoke", "--out", tmp_path], check=True, timeout=300)

    rows = json.loads((tmp_path / "gpu.json").read_text())
    assert {row["section"] for row in rows} == {
        *("rates", "step", "deterministic", "compiled", "compiled_use", "drawing", "decoding", "inception", "end")
    }
    assert not [row for row in rows if row["name"] in ("skipped", "FAILED")]
    table = (tmp_path / "gpu.md").read_text().splitlines()
    assert table[0].startswith("CPU, ") and len(table) == 4 + len(rows)
