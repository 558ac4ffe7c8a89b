"""What a process may use of its machine, told by small copies of what Linux shows."""

import math
import os

import pytest

from restok_cli import machine
from restok_cli.machine import available_cores, cpu_quota, let_threads_sleep


@pytest.fixture
def limits(tmp_path, monkeypatch):
    """Write the files of groups, and the line that says which group this process is in."""

    def write(own, files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        (tmp_path / "own").write_text(own)

    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    return write


@pytest.mark.parametrize(
    ("own", "files", "quota", "cores"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5, 2),
        ("0::/\n", {"cpu.max": "20000 100000\n"}, 0.2, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf, 16),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}, 64, 16),
        ("0::/job/step\n", {"job/cpu.max": "300000 100000\n", "job/step/cpu.max": "max 100000\n"}, 3, 3),
        ("0::/job/step\n", {"job/cpu.max": "300000 100000\n", "job/step/cpu.max": "250000 100000\n"}, 2.5, 3),
        ("0::/not/seen/here\n", {"cpu.max": "400000 100000\n"}, 4, 4),
        ("0::/\n", {"cpu.max": "what is this\n"}, math.inf, 16),
        ("0::/\n", {}, math.inf, 16),
        ("", {}, math.inf, 16),
        (
            "3:memory:/x\n2:cpu,cpuacct:/docker/1\n",
            {"cpu/cpu.cfs_quota_us": "350000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            3.5,
            4,
        ),
        ("2:cpuset:/\n", {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf, 16),
        ("2:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf, 16),
    ],
)
def test_a_share_of_cpu_time_counts_as_so_many_cores_rounded_up(limits, own, files, quota, cores):
    limits(own, files)
    assert (cpu_quota(), available_cores()) == (quota, cores)


@pytest.mark.parametrize(
    ("text", "intel", "bf16"),
    [
        ("vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx512f avx512_bf16 clzero\n", False, True),
        ("vendor_id\t: GenuineIntel\nflags\t\t: fpu avx512f avx512_vnni\n", True, False),
        ("vendor_id\t: GenuineIntel\nflags\t\t: amx_bf16 avx512_bf16 amx_tile\n", True, True),
        ("CPU implementer\t: 0x41\nFeatures\t: fp asimd svebf16 i8mm bf16 dgh\n", False, True),
        ("CPU implementer\t: 0x41\nFeatures\t: fp asimd fphp\n", False, False),
        (None, False, False),
    ],
)
def test_linux_says_what_the_cpu_is_and_has(tmp_path, monkeypatch, text, intel, bf16):
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(machine, "CPU", tmp_path / "cpuinfo")
    monkeypatch.setattr(machine, "cpu_words", machine.cpu_words.__wrapped__)  # uncached
    assert (machine.is_intel(), machine.has_bf16_products()) == (intel, bf16)


def test_without_linux_all_cores_count(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "OWN_GROUPS", tmp_path / "none")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert available_cores() == os.cpu_count()


@pytest.mark.parametrize(("load", "told", "spins"), [(3.1, None, "0"), (2.9, None, None), (3.1, "5", "5")])
def test_threads_sleep_while_they_wait_where_others_keep_all_cores_busy(load, told, spins, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0, 0), raising=False)
    monkeypatch.setattr(os, "environ", {} if told is None else {"GOMP_SPINCOUNT": told})
    let_threads_sleep()
    assert os.environ.get("GOMP_SPINCOUNT") == spins
