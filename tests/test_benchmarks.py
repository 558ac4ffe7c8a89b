"""The benchmark for GPUs, which machines for the tests do not have, runs from its first section to its last."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent / "benchmarks"
GPU = BENCHMARKS / "gpu.py"
SECTIONS = ("rates", "step", "deterministic", "compiled", "compiled_use", "drawing", "decoding", "inception")


@pytest.mark.slow
def test_gpu_benchmark_runs_all_its_sections_with_tiny_sizes_on_the_cpu(tmp_path):
    subprocess.run([sys.executable, GPU, "--smoke", "--out", tmp_path], check=True, timeout=300)

    rows = json.loads((tmp_path / "gpu.json").read_text())
    assert {row["section"] for row in rows} == {*SECTIONS, "end"}
    assert not [row for row in rows if row["name"] in ("skipped", "FAILED")]
    table = (tmp_path / "gpu.md").read_text().splitlines()
    assert table[0].startswith("CPU, ") and len(table) == 4 + len(rows)


def test_a_session_on_a_lent_gpu_runs_each_section_once(tmp_path):
    lent = BENCHMARKS / "lent.sh"
    names = " ".join(re.findall(r'sections="(.*)"', lent.read_text())).split()
    python = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OUT": str(tmp_path)}

    # the last --only counts
    words = ["bash", lent, "eager", "1", "--smoke", "--only", "rates"]
    printed = subprocess.run(words, env=os.environ | python, check=True, timeout=120, capture_output=True, text=True)

    assert "libraries: restok " in printed.stdout  # by doctor
    assert (tmp_path / "eager" / "gpu.md").exists()
    assert sorted(names) == sorted(SECTIONS)
