"""The doctor: finds what is missing or broken, says what to do, and always reaches the end."""

import hashlib
import json
import os
import shutil
import socket
from collections import namedtuple

import pytest
import torch

from restok_cli.diagnosis import downloads, environment, paths
from restok_cli.metrics.networks import inception
from restok_cli.metrics.networks.inception import URL_INCEPTION_V3


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Empty caches, and no way out: a doctor who downloads fails."""

    def refuse(*_arguments, **_options):
        raise AssertionError("the doctor went online")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path / "hub"), raising=False)
    return tmp_path


def looked_at(check) -> dict[str, tuple[str, str, str]]:
    """What a check found: state, text and remedy by subject."""
    return {subject: (state, text, remedy) for state, subject, text, remedy in environment.guarded("it", check)}


@pytest.fixture
def cpu_only(monkeypatch):
    """A machine without any GPU, whatever this one is."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(environment, "GPU_DEVICES", ())


def test_a_machine_with_nothing_wrong_is_told_what_it_lacks_and_how_to_get_it(restok, offline, cpu_only, tiny_models):
    result = restok("doctor", "sample", tiny_models / "har")
    assert result.code == 0 and result.err == ""
    lines = result.out.splitlines()
    assert {line.split()[0] for line in lines} == {"ok", "note"}
    inception = next(line for line in lines if "Inception" in line)
    for word in (URL_INCEPTION_V3, str(offline / "torch" / "checkpoints"), "--inception-weights"):
        assert word in inception
    for subject, option in (("DINOv3", "alignment.weights"), ("DINO", "discriminator.weights")):
        line = next(line for line in lines if f" {subject}: " in line)
        assert line.startswith("note") and "huggingface.co/timm/" in line and option in line
    assert any(line.startswith("ok       sample: a data set, train 1704, validation 202, 98 classes") for line in lines)
    assert any("a generator of" in line and "with a tokenizer of" in line for line in lines)


def test_json_says_the_same_in_one_object(restok, offline, tmp_path):
    result = restok("doctor", tmp_path / "nowhere", "--json")
    report = json.loads(result.out)
    wrong = [finding for finding in report["findings"] if finding["state"] == "problem"]
    assert result.code == 1 and report["problems"] == len(wrong) and "restok: " in result.err
    assert wrong[-1]["subject"] == str(tmp_path / "nowhere") and "no such folder" in wrong[-1]["text"]
    assert {"python", "libraries", "torch", "memory", "Inception (96 MB)"} <= {f["subject"] for f in report["findings"]}


def test_damaged_weights_in_the_cache_are_a_problem_and_whole_ones_are_not(offline, monkeypatch):
    path = offline / "torch" / "checkpoints" / URL_INCEPTION_V3.rsplit("/", 1)[1]
    path.parent.mkdir(parents=True)
    path.write_bytes(b"whole")
    state, text, remedy = looked_at(downloads.torch_weights)["Inception (96 MB)"]
    assert state == "problem" and str(path) in text and "delete it" in remedy
    monkeypatch.setattr(inception, "INCEPTION_SHA256_START", hashlib.sha256(b"whole").hexdigest()[:8])
    assert looked_at(downloads.torch_weights)["Inception (96 MB)"][0] == "ok"


def test_a_check_that_breaks_is_a_problem_of_its_own_and_not_the_end(restok, offline, monkeypatch):
    def broken(*_arguments):
        raise OSError("libcudart.so is missing")

    monkeypatch.setattr(torch, "get_num_threads", broken)
    monkeypatch.setattr(shutil, "disk_usage", broken)
    result = restok("doctor")
    lines = result.out.splitlines()
    assert result.code == 1
    for subject in ("cores", "this folder", "shared memory"):
        assert f"problem  {subject}: cannot be looked at (libcudart.so is missing)" in lines
    assert any("CLIP: " in line for line in lines)


def test_versions_are_compared_with_what_restok_asks_for(monkeypatch):
    asked = ["torch>=2.6", "numpy>=99", "nosuchpackage>=1", 'nosuchplot>=3; extra == "plots"', 'no; extra == "test"']
    monkeypatch.setattr(environment, "requires", lambda _name: asked)
    found = looked_at(environment.libraries)
    assert found["numpy"][0] == "problem" and found["numpy"][2] == "pip install --upgrade 'numpy>=99'"
    assert found["nosuchpackage"][:2] == ("problem", "not installed")
    assert found["plots"][0] == "note" and "restok[plots]" in found["plots"][2]
    assert "torch 2." in found["libraries"][1] and "no" not in found


@pytest.mark.parametrize(
    ("cuda", "has_gpu", "state", "remedy"),
    [
        ("13.0", False, "note", "whl/cpu"),
        (None, False, "ok", ""),
        ("13.0", True, "problem", "update its driver"),
        (None, True, "problem", "pytorch.org/get-started"),
    ],
)
def test_builds_of_torch_that_do_not_fit_the_machine_are_told(
    cpu_only, monkeypatch, tmp_path, cuda, has_gpu, state, remedy
):
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(environment, "GPU_DEVICES", (tmp_path,) if has_gpu else ())
    found = looked_at(environment.torch_and_its_device)["device"]
    assert found[0] == state and remedy in found[2]


def test_a_gpu_that_does_not_work_is_a_problem(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)

    def fail(*_arguments, **_options):
        raise RuntimeError("CUDA error: no kernel image\nmore")

    monkeypatch.setattr(torch, "ones", fail)
    state, text, _ = looked_at(environment.torch_and_its_device)["cuda:0"]
    assert state == "problem" and "(CUDA error: no kernel image)" in text


def test_little_room_is_a_note_and_none_is_a_problem(monkeypatch):
    usage = namedtuple("usage", "total used free")
    for free, state in ((50e9, "ok"), (2e9, "note"), (1e6, "problem")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _path, free=free: usage(100e9, 100e9 - free, free))
        assert looked_at(environment.disks)["this folder"][0] == state


def test_a_cache_that_cannot_be_written_is_named_with_the_variable_that_moves_it(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.touch()  # as nobody's folder would be, to root as well
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(file))
    found = looked_at(environment.disks)
    assert found["torch's cache"][2] == "set TORCH_HOME to a folder that your user may write to"
    assert found["restok's cache"][2] == "set XDG_CACHE_HOME to a folder that your user may write to"


def test_a_missing_compiler_is_no_problem(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.delenv("CXX", raising=False)
    assert looked_at(environment.compiler)["compiler"][0] == "note"


def damage_shard(folder):
    os.truncate(next(folder.glob("*.tar")), 5000)


def damage_index(folder):
    next(folder.glob("*.npy")).write_bytes(b"no index")


def damage_manifest(folder):
    (folder / "dataset.json").write_text("{")


@pytest.mark.parametrize("damage", [damage_shard, damage_index, damage_manifest])
def test_damaged_data_sets_are_problems(restok, tmp_path, damage):
    assert restok("prepare", "sample", tmp_path / "data").code == 0
    assert looked_at(lambda: paths.check_path(str(tmp_path / "data")))[str(tmp_path / "data")][0] == "ok"
    damage(tmp_path / "data")
    state, text, _ = looked_at(lambda: paths.check_path(str(tmp_path / "data")))[str(tmp_path / "data")]
    assert state == "problem" and "copy the data set again" in text


def test_models_are_checked_by_config_and_header(tmp_path, tiny_models):
    folder = tmp_path / "model"
    shutil.copytree(tiny_models / "tokenizer", folder)
    check = lambda: paths.check_path(str(folder))  # noqa: E731
    assert looked_at(check)[str(folder)][0] == "ok"
    weights = folder / "model.safetensors"
    os.truncate(weights, weights.stat().st_size - 1)
    state, text, _ = looked_at(check)[str(folder)]
    assert state == "problem" and "cannot be read" in text and "make it again" in text
    shutil.copy(tiny_models / "har" / "model.safetensors", weights)
    assert "does not fit its config.json" in looked_at(check)[str(folder)][1]
    weights.unlink()
    assert looked_at(check)[str(folder)][0] == "problem"


def test_hub_names_are_not_downloaded(offline):
    name = "hf:owner/name"
    assert looked_at(lambda: paths.check_path(name))[name][0] == "note"
