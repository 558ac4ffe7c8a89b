"""Changes with which a run may resume, and those that make it another run."""

import pytest
import torch
from run_folders import Weights, config, go_on, resumed, start, state_of

from restok_cli.errors import UsageError
from restok_cli.settings.training import HarRunConfig, TokenizerRunConfig
from restok_cli.settings.yaml_file import merged
from restok_cli.training.frozen import weights_fingerprint
from restok_cli.training.run_folder.run import RunFolder


def test_another_config_is_another_run_and_what_changed_is_said(tmp_path):
    start(tmp_path)
    with pytest.raises(UsageError, match=r"--resume: schedule\.batch_size was 256 in .*config\.yaml and is now 8"):
        resumed(tmp_path, config(batch_size=8))
    with pytest.raises(UsageError, match="holds no run to resume"):
        RunFolder(tmp_path / "other", config(), resume=True, overwrite=False)


def test_what_does_not_make_another_run_may_change_and_is_noted(tmp_path, capsys):
    run = start(tmp_path)
    run.save(10, state_of(10))
    changed = merged(
        config(log_every=7, micro_batch_size=64, keep_every=5000).model_dump(),
        {"data": {"num_workers": 3}, "compute": {"compile": True}, "health": {"max_skipped_steps": 3}},
    )
    run = resumed(tmp_path, HarRunConfig.parse(changed, "test"))
    assert run.load()["step"] == 10
    assert capsys.readouterr().err == ""  # until it begins: it may still be refused
    run.begin(10)
    assert "--resume: schedule.log_every was 50 and is now 7\n" in capsys.readouterr().err
    assert resumed(tmp_path, run.config).load()["step"] == 10  # config.yaml has what is now so
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("schedule", "step", "max_steps", "fits"),
    [
        ("cosine", 0, 200, True),  # nothing done yet
        ("cosine", 10, 200, True),  # in the warm-up
        ("cosine", 12, 200, False),
        ("cosine", 50, 60, False),
        ("constant", 100, 200, True),
        ("constant", 50, 60, True),
        ("constant", 50, 40, False),  # done more than that already
        ("wsd", 80, 200, True),  # before the decay of either
        ("wsd", 85, 200, False),
        ("wsd", 50, 60, False),  # should have decayed already
        ("wsd", 40, 60, True),
    ],
)
def test_max_steps_may_change_where_no_learning_rate_so_far_depended_on_it(tmp_path, schedule, step, max_steps, fits):
    optimizer = {"schedule": schedule}
    run = start(tmp_path, config(optimizer=optimizer))
    if step:
        run.save(step, state_of(step))
    changed = config(optimizer=optimizer, max_steps=max_steps)
    if fits:
        state = resumed(tmp_path, changed).load()
        assert (state["step"] if state else 0) == step
    else:
        with pytest.raises(UsageError, match=rf"--resume: max_steps (was 100 and is now|=) {max_steps}"):
            resumed(tmp_path, changed).load()


@pytest.mark.parametrize("name", ["decay_steps", "final_learning_rate"])
def test_how_a_rate_decays_may_change_until_it_does(tmp_path, name):
    before = config(optimizer={"schedule": "wsd", "decay_steps": 20, "final_learning_rate": 1e-5})
    changed = {"schedule": "wsd", "decay_steps": 20, "final_learning_rate": 1e-5}
    changed[name] = changed[name] / 2 if name == "final_learning_rate" else 10
    run = start(tmp_path, before)
    run.save(60, state_of(60))
    assert resumed(tmp_path, config(optimizer=changed)).load()["step"] == 60
    run = start(tmp_path, before, overwrite=True)
    run.save(95, state_of(95))
    with pytest.raises(UsageError, match=f"--resume: {name} was .* would change the learning rates of the 95 steps"):
        resumed(tmp_path, config(optimizer=changed)).load()


def test_a_length_that_was_edited_in_the_runs_own_config_is_compared_with_the_checkpoints(tmp_path):
    """Else what is resumed would be compared with itself, and the steps done have had other rates."""
    run = start(tmp_path)
    run.save(60, state_of(60))
    file = run.path / "config.yaml"
    file.write_text(file.read_text().replace("max_steps: 100", "max_steps: 200"))
    with pytest.raises(UsageError, match="max_steps was 100 and is now 200, which would change the learning rates"):
        resumed(tmp_path, config(max_steps=200)).load()


def everything(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "log.txt"}


@pytest.mark.parametrize("changed", ["data set", "network of alignment.weights"])
def test_a_run_that_would_learn_from_something_else_is_refused_and_left_as_it_is(tmp_path, changed):
    run, before = start(tmp_path), {"network of alignment.weights": "old"}
    assert go_on(run, **before) == 0
    run.save(5, Weights().state_dict())
    run.log(6, {"loss": 1.0})
    found = everything(run.path)
    with pytest.raises(UsageError, match=f"--resume: the {changed} is not the one that this run was started with"):
        go_on(resumed(tmp_path, config(log_every=7)), **(before | {changed: "new"}))
    assert everything(run.path) == found
    assert go_on(resumed(tmp_path, config(log_every=7)), **before) == 5


def test_networks_have_one_fingerprint_only_where_all_their_weights_are_alike():
    def network(value):
        layer = torch.nn.Linear(300, 300)
        torch.nn.init.constant_(layer.weight, 0.25)
        torch.nn.init.constant_(layer.bias, value)
        return layer

    assert weights_fingerprint(network(1.0)) == weights_fingerprint(network(1.0))
    assert weights_fingerprint(network(1.0)) != weights_fingerprint(network(1.0 + 1e-6))


def test_a_run_without_a_checkpoint_does_not_go_on_from_other_weights_than_it_began_with(tmp_path):
    go_on(start(tmp_path, init="photo (fingerprint 12)"))
    for init in (None, "other (fingerprint 34)"):
        with pytest.raises(UsageError, match=r"began from the weights of photo \(fingerprint 12\) and has no"):
            start(tmp_path, resume=True, init=init)
    go_on(start(tmp_path, resume=True, init="photo (fingerprint 12)"))


def test_the_discriminators_learning_rates_count_too(tmp_path):
    values = {
        "optimizer": {"schedule": "constant"},
        "schedule": {"max_steps": 100},
        "discriminator": {"weight": 0.5, "start_step": 50, "optimizer": {"warmup_steps": 0}},
    }
    before, after = (
        TokenizerRunConfig.parse(merged(values, {"schedule": {"max_steps": count}}), "test") for count in (100, 200)
    )
    run = start(tmp_path, before)
    run.save(50, state_of(50))
    resumed(tmp_path, after).load()
    run = start(tmp_path, before, overwrite=True)
    run.save(60, state_of(60))
    with pytest.raises(UsageError, match="would change the learning rates of the 60 steps"):
        resumed(tmp_path, after).load()


def test_files_of_weights_may_have_moved_but_not_become_random_ones(tmp_path):
    def aligned(weights):
        return TokenizerRunConfig.parse({"alignment": {"weights": weights}}, "test")

    start(tmp_path, aligned(None))
    resumed(tmp_path, aligned("elsewhere.safetensors")).begin(0)
    with pytest.raises(UsageError, match=r"alignment\.weights was elsewhere\.safetensors"):
        resumed(tmp_path, aligned("random"))
