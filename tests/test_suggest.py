"""`restok config suggest`: what it chooses by images, time and memory, and that its command is one."""

import json
import math
from types import SimpleNamespace

import pytest
import torch

from restok_cli.errors import UsageError
from restok_cli.planning import steps, suggest
from restok_cli.planning.suggest import Measured, Wishes, fitting, gain, steps_in
from restok_cli.settings.presets import read_preset
from restok_cli.settings.training import RUN_CONFIGS


@pytest.fixture
def no_measuring(monkeypatch):
    """A machine that takes 0.5 s for a step, each image of which needs 1 GB, and a start of 20 dB."""
    monkeypatch.setattr(suggest, "measure", lambda config, *_: Measured(0.5, 20.0 if hasattr(config, "loss") else None))
    monkeypatch.setattr(
        steps, "count_step", lambda config, _: SimpleNamespace(peak=config.schedule.micro_batch_size * 1e9)
    )


@pytest.mark.parametrize("kind", RUN_CONFIGS)
def test_what_is_suggested_is_a_command(restok, fails, no_measuring, tmp_path, kind):
    asked = ("config", "suggest", "sample", "--kind", kind, "--minutes", 10, "--memory", 11)
    found = json.loads(restok(*asked, "--device", "cpu", "--json").out)
    words = found["command"]
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert words[:3] == ["restok", f"train-{kind}", "sample"] and options["--max-steps"] == "1000"  # of 1,020
    assert options["--device"] == "cpu" and found["warnings"] == []
    assert [word for word in words if "_every=" in word] == [
        f"schedule.{name}_every=83" for name in ("validate", "save", "preview")
    ]
    assert found["expect"][0] == "1000 steps of 0.5 s, in all 10 minutes"  # 588 s, of which 500 are steps
    assert found["why"][0].startswith("--max-steps: what fits into 10 minutes on cpu")
    assert "schedule.micro_batch_size=8" in words and any("needs 10.19 of 11.0 GB" in line for line in found["why"])
    line = fails(2, *words[1:], "--stop-at", 1001)  # all else of it was right, and read before
    assert line == "restok: --stop-at 1001: the run ends at schedule.max_steps = 1000"
    spoken = restok(*asked).out
    assert spoken.startswith("restok train-")
    assert ("cannot give a generator that draws new ones" in spoken) == (kind == "har")
    assert ("20.0 dB as photo is" in spoken) == (kind == "tokenizer")


def test_the_image_size_is_taken_into_the_command_and_its_effect_told(restok, fails, no_measuring):
    found = json.loads(restok("config", "suggest", "sample", "--image-size", "128x96", "--minutes", 0.5, "--json").out)
    assert found["command"][found["command"].index("--image-size") + 1] == "128x96"
    assert any("smaller than 128x96 and are enlarged" in line for line in found["warnings"])
    assert "51 steps may leave it worse than photo is untouched; give more --minutes" in found["warnings"]
    assert "is for images of 64x64" in fails(2, "config", "suggest", "sample", "--image-size", 128, "--kind", "har")
    assert "64 or 128 would do" in fails(2, "config", "suggest", "sample", "--image-size", 100)


def test_steps_fit_into_the_time_and_see_few_images_not_too_often():
    assert steps_in(10, 0.5, 16, 10**6) == 1000
    assert steps_in(1000, 0.5, 16, 1600) == 300 * 1600 // 16
    assert steps_in(1000, 0.5, 16, float("inf")) == 100_000  # of 102,000; nobody has counted the images
    with pytest.raises(UsageError, match=r"--minutes 0\.1: a step takes 60 s; give more minutes"):
        steps_in(0.1, 60, 16, 1600)


def test_what_memory_does_not_hold_is_refused(no_measuring):
    config = RUN_CONFIGS["tokenizer"].parse(read_preset("tokenizer", "tiny"), "tiny")
    request = Wishes("sample", "tokenizer", None, 15, "cpu", torch.device("cpu"), 0.5e9)
    with pytest.raises(UsageError, match=r"a step of one image needs 2\.07 GB, and there are 0\.50 GB"):
        fitting(config, request)


def test_more_images_never_gain_less():
    gains = [gain(seen) for seen in range(0, 100_000, 100)]
    assert gains[0] == 0 and gains == sorted(gains) and gain(10**9) == suggest.GAINS[-1][1]
    assert [gain(seen) for seen, _ in suggest.GAINS] == pytest.approx([gained for _, gained in suggest.GAINS])
    assert gain(round(math.sqrt(400 * 800))) == pytest.approx((2.8 + 4.9) / 2, abs=0.01)
