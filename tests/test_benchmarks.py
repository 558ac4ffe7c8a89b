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
    """With a Python that only writes down what it is asked for."""
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\necho "$*" >>"$OUT/calls"\ncase "$*" in "-c print"*) echo 60 ;; esac\n')
    python.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "OUT": str(tmp_path)}

    for part in ("compiled", "eager"):
        words = ["bash", BENCHMARKS / "lent.sh", part, "4.5", "--smoke"]
        subprocess.run(words, env=environment, check=True, timeout=60)

    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls.count("-m restok_cli doctor") == 2
    assert sum("tests/test_devices.py" in call for call in calls) == 1
    asked = [re.fullmatch(r"\S+gpu.py --out (\S+) --minutes 4.5 --only (.*) --smoke", call) for call in calls]
    compiled, eager = (call for call in asked if call)
    assert (compiled[1], eager[1]) == (f"{tmp_path}/compiled", f"{tmp_path}/eager")
    assert sorted(f"{compiled[2]} {eager[2]}".split()) == sorted(SECTIONS)
