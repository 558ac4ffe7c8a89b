"""Runs from before training was in all as the released code's: they go on as they began, and are told what changed."""

import hashlib
import json

import pytest
import torch
import yaml
from torch import nn

from restok_cli.errors import UsageError
from restok_cli.settings.recorded import changed_since, recorded_config
from restok_cli.settings.run_config import read_told
from restok_cli.settings.training import HarRunConfig, OptimizerConfig, RunKind, TokenizerRunConfig
from restok_cli.settings.yaml_file import merged
from restok_cli.training.run_folder.run import RunFolder
from restok_cli.training.update import Update

TOLD = (
    "--resume: the run began before training was as the authors'; it keeps data.crop = random-resized and "
    "discriminator.augment_range = signed; changed for it too: weight decay (no longer on what embeds patches and "
    "codes), the crop before LPIPS (padded with the border, nothing cut off), LeCam (of mean logits), the eps of the "
    "discriminator's norms (docs/training.md)\n"
)


def settings(kind: RunKind, run, preset, *assignments, resume=True):
    return read_told(kind, run, resume, preset, None, list(assignments), None, None, None).config


def make_older(run, **data):
    """Turn the files of a run into those that an older restok wrote."""
    for folder in (run, *run.glob("checkpoints/*")):
        file = folder / "config.yaml"
        values = yaml.safe_load(file.read_text())
        del values["data"]["random_zoom"]
        values["data"] |= {"crop": "random-resized"} | data
        values.get("discriminator", {}).pop("augment_range", None)
        file.write_text(yaml.safe_dump(values))
        if folder != run:
            sums = json.loads((folder / "checksums.json").read_text())
            content = file.read_bytes()
            sums[file.name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            (folder / "checksums.json").write_text(json.dumps(sums))


@pytest.mark.parametrize("named", ["restok-l-128", None])
def test_an_older_run_keeps_its_choices_and_is_told_once_what_changed(tmp_path, capsys, named):
    begun = settings("tokenizer", tmp_path, "restok-l-128", resume=False)
    run = RunFolder(tmp_path, begun, resume=False, overwrite=False)
    run.save(3, {"weights": {"a": torch.ones(2)}})
    make_older(tmp_path)
    choices = {"data": {"crop": "random-resized", "random_zoom": [1.1, 1.1]}}
    choices |= {"discriminator": {"augment_range": "signed"}}
    for told in (TOLD, ""):
        config = settings("tokenizer", tmp_path, named)
        assert config == TokenizerRunConfig.parse(merged(begun.model_dump(), choices), "test")
        run = RunFolder(tmp_path, config, resume=True, overwrite=False)
        assert run.load()["step"] == 3
        with run.logging():
            run.begin(3)
        assert capsys.readouterr().err == told
    assert TOLD in (tmp_path / "log.txt").read_text()


def test_a_run_from_before_there_was_a_choice_still_validates_on_all_images(tmp_path, capsys):
    begun = settings("har", tmp_path, "har-b", resume=False)
    assert begun.schedule.validation_images == 5000
    RunFolder(tmp_path, begun, resume=False, overwrite=False)
    file = tmp_path / "config.yaml"
    file.write_text(file.read_text().replace("  validation_images: 5000\n", ""))
    for preset in ("har-b", None):
        assert settings("har", tmp_path, preset).schedule.validation_images == "all"
    changed = settings("har", tmp_path, None, "schedule.validation_images=7")
    RunFolder(tmp_path, changed, resume=True, overwrite=False).begin(0)
    assert capsys.readouterr().err == "--resume: schedule.validation_images was all and is now 7\n"
    assert settings("har", tmp_path, None).schedule.validation_limit == 7


def test_what_is_stated_is_still_refused_where_an_older_run_did_otherwise(tmp_path, capsys):
    RunFolder(tmp_path, settings("har", tmp_path, "har-b", resume=False), resume=False, overwrite=False)
    make_older(tmp_path)
    with pytest.raises(UsageError, match=r"data\.crop was random-resized in .* and is now random"):
        RunFolder(tmp_path, settings("har", tmp_path, "har-b", "data.crop=random"), resume=True, overwrite=False)
    assert capsys.readouterr().err == ""


def test_a_run_is_told_only_what_concerns_it():
    line = "--resume: the run began before training was as the authors'; it keeps data.crop = "
    plain = TokenizerRunConfig.parse({"data": {"crop": "centre"}}, "test")
    decay = "weight decay (no longer on what embeds patches and codes)"
    assert changed_since(plain) == f"{line}centre; changed for it too: {decay} (docs/training.md)"
    assert changed_since(HarRunConfig.parse({"data": {"crop": "random-resized"}}, "test")) == f"{line}random-resized"
    patch = TokenizerRunConfig.parse({"discriminator": {"weight": 1, "kind": "patch"}}, "test")
    assert "all of the PatchGAN but its weights" in changed_since(patch)


def test_the_random_crop_of_an_older_run_had_one_size(tmp_path):
    RunFolder(tmp_path, settings("har", tmp_path, "har-b", resume=False), resume=False, overwrite=False)
    make_older(tmp_path, crop="random")
    config = recorded_config(HarRunConfig, tmp_path / "config.yaml")
    assert config == settings("har", tmp_path, "har-b")
    assert config.data.random_zoom == (1.1, 1.1)
    assert "it keeps data.crop = random and data.random_zoom = [1.1, 1.1]; changed" in changed_since(config)


def test_an_optimizer_goes_on_from_one_whose_weight_decay_was_dealt_out_otherwise():
    """As it was for what embeds patches and codes."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.inner, self.out = nn.Linear(2, 3), nn.LayerNorm(3), nn.Linear(3, 1)

        def forward(self, values):
            return self.out(self.inner(self.embed(values)))

    def update_of(model):
        return Update(model, OptimizerConfig(weight_decay=0.5, warmup_steps=0), 10, "float32")

    torch.manual_seed(0)
    before, after = Model(), Model()
    old, new = update_of(before), update_of(after)
    decayed, others = (group["params"] for group in old.optimizer.param_groups)
    decayed.insert(0, others.pop(0))
    assert decayed[0] is before.embed.weight
    old.backward(before(torch.rand(4, 2)).square().sum())
    old.step(0)
    new.load_state_dict(old.state_dict())
    groups = new.optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]
    assert [id(p) for p in groups[0]["params"]] == [id(after.out.weight)]
    for (name, ours), theirs in zip(after.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(new.optimizer.state[ours]["exp_avg"], old.optimizer.state[theirs]["exp_avg"]), name
