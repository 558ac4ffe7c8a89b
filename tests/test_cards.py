"""Model cards say what is known of a model, the same each time, and nothing that nobody has stated."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from pictures import write_pictures
from plain_models import plain_tokenizer

from restok_cli import cli
from restok_cli.data.shards.dataset import open_dataset
from restok_cli.errors import RestokError
from restok_cli.pretrained.card import Record, card_text, read_record, record_text
from restok_cli.pretrained.folder import fingerprint, open_har, open_tokenizer
from restok_cli.settings.presets import preset_names, read_preset
from restok_cli.settings.training import RUN_CONFIGS
from restok_cli.settings.yaml_file import merged
from restok_cli.training.run_folder.history import last_numbers, nearest_preset


def front_matter(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A data set of 8 images in 2 classes; training on it takes next to no time."""
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "pets", [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(5)], 32, 32)
    assert cli.run(["prepare", "folder", str(folder / "pets"), str(folder / "set")]) == 0
    return folder / "set"


def training(data: Path, run: Path) -> list[str]:
    """A tokenizer's run of 4 steps, validated after 2 and 4."""
    every = [f"--set=schedule.{name}_every=2" for name in ("validate", "preview", "save")]
    options = ["--batch-size", "4", "--max-steps", "4", "--seed", "7", "-o", str(run)]
    return ["train-tokenizer", str(data), "--preset", "tiny", *every, *options]


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    assert cli.run([*training(data, folder), "--skip-preflight"]) == 0
    return folder


@pytest.fixture
def tokenizer(tiny_models, tmp_path) -> Path:
    return shutil.copytree(tiny_models / "tokenizer", tmp_path / "tokenizer")


@pytest.fixture
def har(tiny_models, tmp_path) -> Path:
    return shutil.copytree(tiny_models / "har", tmp_path / "har")


def write_result(path: Path, metrics: dict, **protocol: object) -> Path:
    """What `restok evaluate --json` would have printed."""
    facts = {"n": 202, "n_reference": 202, "definition": "so defined", "caveat": "fewer than 10,000 images"}
    protocol = {
        "samples": {},
        "reference": {"source": "/home/me/pets"},
        "features": {"network": "inception"},
    } | protocol
    metrics = {name: facts | {"name": f"{name}-202", "value": value} for name, value in metrics.items()}
    path.write_text(json.dumps({"metrics": metrics, "protocol": protocol}))
    return path


def test_training_writes_what_it_did_into_the_card(run, data):
    card = (run / "model" / "README.md").read_text()
    assert front_matter(card)["license"] == "unknown" and "restok invents none" in card
    assert "image of 32×32 pixels into 32 codes in 6 coarse-to-fine levels (1, 1, 2, 4, 8, 16)" in card
    assert "| steps | 4 steps, 4 images each, from random weights |" in card
    assert f"| data set | pets, fingerprint `{open_dataset(data).fingerprint}` |" in card
    assert "preset `tiny`, and what is listed below" in card
    stated = "schedule.max_steps: 4\nschedule.batch_size: 4\nschedule.seed: 7\n"
    assert f"```yaml\noptimizer.warmup_steps: 0\n{stated}revival.until: 2\n```" in card  # the preset's, rescaled
    last = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][-1]
    assert f"| PSNR, dB | {last['validation_psnr']:.4g} |" in card and "after step 4:" in card


def test_a_card_depends_on_nothing_but_its_folder(run):
    model = open_tokenizer(run)
    record = read_record(run / "model")
    assert card_text(model, record) == (run / "model" / "README.md").read_text()
    assert record.training.validation_step == 4


def test_a_stopped_run_says_so_and_a_resumed_one_has_the_card_of_an_uninterrupted_one(run, data, restok, tmp_path):
    command = training(data, tmp_path / "run")
    assert restok(*command, "--skip-preflight", "--stop-at", 3).code == 0
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert (
        "3 steps of the 4 planned" in card and "Its weights are of step 3, before" in card and "after step 2:" in card
    )
    assert restok(*command, "--resume").code == 0
    for file in ("README.md", "card.json", "config.json", "model.safetensors"):
        assert (tmp_path / "run" / "model" / file).read_bytes() == (run / "model" / file).read_bytes()


def test_a_run_from_other_weights_names_them_also_after_a_resume(run, data, restok, tmp_path):
    command = [*training(data, tmp_path / "new"), "--init", run]
    assert restok(*command, "--skip-preflight", "--stop-at", 1).code == 0
    assert restok(*command, "--resume").code == 0
    known = fingerprint(open_tokenizer(run))[:16]
    card = (tmp_path / "new" / "model" / "README.md").read_text()
    assert f"4 steps, 4 images each, from the weights of run (fingerprint {known})" in card


def test_a_generator_has_its_tokenizers_card_beside_its_own(run, data, restok, tmp_path):
    options = ["--preset", "tiny", "--batch-size", 4, "--max-steps", 1, "--skip-preflight", "-o", tmp_path / "har"]
    assert restok("train-har", data, "--tokenizer", run, *options).code == 0
    folder = tmp_path / "har" / "model"
    assert (folder / "tokenizer" / "README.md").read_bytes() == (run / "model" / "README.md").read_bytes()
    card, tokenizer = (folder / "README.md").read_text(), open_tokenizer(run)
    assert front_matter(card)["pipeline_tag"] == "unconditional-image-generation"
    assert "draws the 32 codes of an image in 7 steps (1, 1, 1, 1, 4, 8, 16 codes), given one of 2 classes" in card
    count = sum(p.numel() for p in plain_tokenizer(run, torch.device("cpu")).parameters())
    assert f"`tokenizer/` ({count:,} parameters, fingerprint `{fingerprint(tokenizer)[:16]}`)" in card
    assert "cross-entropy, nats per code" in card


def test_a_card_changes_no_fingerprint(tokenizer, restok):
    before = fingerprint(open_tokenizer(tokenizer))
    assert restok("models", "card", tokenizer, "--licence", "mit").out == f"{tokenizer / 'README.md'}\n"
    assert fingerprint(open_tokenizer(tokenizer)) == before


def test_models_that_nobody_described_say_that_nothing_is_known(har, restok):
    assert restok("models", "card", har).code == 0
    card = (har / "README.md").read_text()
    assert "Not recorded: restok did not train this model" in card and "## Measured\n\nNothing yet." in card


def test_features_that_papers_do_not_use_are_named(har, restok, tmp_path):
    result = write_result(
        tmp_path / "a.json", {"gfid": 12.5, "mse": 3.0}, features={"network": "random", "published": False}
    )
    assert restok("models", "card", har, "--metrics", result).code == 0
    card = (har / "README.md").read_text()
    assert "| gfid-202 (random) | 12.5 |" in card and "| mse-202 | 3 |" in card


def test_metrics_stand_in_the_card_with_n_reference_and_caveat(har, restok, tmp_path):
    first = write_result(tmp_path / "a.json", {"gfid": 12.5, "is": 3.0})
    ours = fingerprint(open_har(har))
    second = write_result(tmp_path / "b.json", {"psnr": 20.123456789}, features=None, model_fingerprint=ours)
    assert restok("models", "card", har, "--metrics", first, "--metrics", second).code == 0
    card = (har / "README.md").read_text()
    assert "| gfid-202 | 12.5 | pets, 202 images | inception features |" in card  # no folder of this machine
    assert "| is-202 | 3 |  | inception features |" in card
    assert "| psnr-202 | 20.1235 dB | pets, 202 images | so defined |" in card
    assert "(fewer than 10,000 images): gfid-202, is-202, psnr-202." in card
    assert restok("models", "card", har, "--licence", "Apache-2.0").code == 0  # leaves the metrics as they are
    assert front_matter((har / "README.md").read_text())["license"] == "apache-2.0"
    assert "gfid-202" in (har / "README.md").read_text()


def test_intervals_and_the_number_of_runs_stand_in_the_card(har, fails, restok, tmp_path):
    file = write_result(tmp_path / "a.json", {"gfid": 12.5})
    result = json.loads(file.read_text())
    result["metrics"]["gfid"] |= {"values": [12.0, 13.0], "interval": [6.1, 18.9]}
    file.write_text(json.dumps(result | {"runs": [result, result]}))
    assert restok("models", "card", har, "--metrics", file).code == 0
    assert "| inception features; mean of 2 runs; 95 % interval [6.1, 18.9] |" in (har / "README.md").read_text()
    other = result | {"protocol": result["protocol"] | {"model_fingerprint": "0" * 64}}
    file.write_text(json.dumps(result | {"runs": [result, other]}))
    assert "holds numbers of another model" in fails(1, "models", "card", har, "--metrics", file)


def test_real_results_go_into_the_card(har, data, restok, tmp_path):
    result = restok("evaluate", data, "--num-codes", "1,32", "--model", har, "--metric", "psnr", "--json")
    assert result.code == 0, result.err
    (tmp_path / "curve.json").write_text(result.out)
    assert restok("models", "card", har, "--metrics", tmp_path / "curve.json").code == 0
    value = json.loads(result.out)["curve"][1]["metrics"]["psnr"]["value"]
    text = (har / "README.md").read_text()
    assert f"| PSNR-2 from 32 codes | {value:.6g} dB | set (validation), 2 images | mean over images" in text


def test_numbers_of_another_model_and_files_without_numbers_are_refused(tokenizer, fails, tmp_path):
    other = write_result(tmp_path / "other.json", {"psnr": 20}, model_fingerprint="0" * 64)
    line = fails(1, "models", "card", tokenizer, "--metrics", other)
    assert "holds numbers of another model (fingerprint 0000000000000000)" in line
    for name, text in (("a", "[]"), ("b", "{"), ("c", '{"metrics": {"what": {}}, "protocol": {}}')):
        (tmp_path / name).write_text(text)
        assert f"{name} is wrong: " in fails(1, "models", "card", tokenizer, "--metrics", tmp_path / name)
    assert not (tokenizer / "README.md").exists()


def test_a_licence_is_one_word(tokenizer, fails):
    for wrong in ("MIT or so", "mit\nlibrary_name: other", ": mit"):
        assert "give one short name" in fails(2, "models", "card", tokenizer, f"--licence={wrong}")


def test_an_edited_card_is_replaced_only_when_asked_to(tokenizer, restok, fails):
    assert restok("models", "card", tokenizer).code == 0
    with open(tokenizer / "README.md", "a") as file:
        file.write("My own words.\n")
    assert "give --overwrite to replace it" in fails(2, "models", "card", tokenizer, "--licence", "mit")
    assert read_record(tokenizer).licence is None
    assert restok("models", "card", tokenizer, "--licence", "mit", "--overwrite").code == 0
    assert "My own words." not in (tokenizer / "README.md").read_text()


def test_a_damaged_record_is_named(tokenizer, fails):
    (tokenizer / "card.json").write_text('{"licence": 3}')
    line = fails(1, "models", "card", tokenizer)
    assert "card.json is wrong: licence = 3: " in line and "delete it" in line
    (tokenizer / "card.json").write_text("{")
    with pytest.raises(RestokError, match=r"card\.json is wrong: invalid JSON"):
        read_record(tokenizer)


def test_a_converted_model_takes_its_card_along(har, restok, tmp_path):
    assert restok("models", "card", har, "--licence", "mit").code == 0
    assert restok("models", "convert", har, tmp_path / "released").code == 0
    assert read_record(tmp_path / "released") == Record(licence="mit")
    text = (tmp_path / "released" / "README.md").read_text()
    assert "license: mit" in text and "The tokenizer that turns its codes into images is not part" in text
    assert "--tokenizer TOKENIZER" in text
    assert text == card_text(open_har(tmp_path / "released"), Record(licence="mit"))


def test_a_readme_that_is_no_models_card_is_never_overwritten(har, fails, tmp_path):
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "README.md").write_text("mine")
    line = fails(2, "models", "convert", har, tmp_path / "project", "--overwrite")
    assert "holds README.md, which this command did not make" in line


@pytest.mark.parametrize("kind", RUN_CONFIGS)
def test_every_preset_is_nearest_to_itself(kind):
    for name in preset_names(kind):
        found, changes = nearest_preset(RUN_CONFIGS[kind].parse(read_preset(kind, name), name))
        same = RUN_CONFIGS[kind].parse(read_preset(kind, found), found)
        assert changes == {} and same == RUN_CONFIGS[kind].parse(read_preset(kind, name), name)


def test_the_card_tells_settings_and_no_paths():
    changes = {"loss": {"lpips_weights": "/home/me/vgg.pth"}, "alignment": {"weights": "random"}}
    changes |= {"optimizer": {"learning_rate": 3e-4}, "schedule": {"log_every": 1}}
    config = RUN_CONFIGS["tokenizer"].parse(merged(read_preset("tokenizer", "sample"), changes), "test")
    assert nearest_preset(config) == ("sample", {"optimizer.learning_rate": 3e-4, "alignment.weights": "random"})


def test_the_last_numbers_of_a_kind_are_found_behind_other_lines(tmp_path):
    assert last_numbers(tmp_path / "metrics.jsonl", "loss") == (None, {})
    lines = [{"step": 2, "validation_psnr": 1.0}, {"step": 4, "validation_psnr": 2.0}, {"step": 5, "loss": 0.1}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert last_numbers(tmp_path / "metrics.jsonl", "validation_") == (4, {"validation_psnr": 2.0})
    assert last_numbers(tmp_path / "metrics.jsonl", "loss") == (5, {"loss": 0.1})


def test_the_card_of_a_generator_says_that_it_is_overfitted(run, har, restok):
    training = read_record(run / "model").training
    for seen, held_out, words in (
        (0.5, 9.9, "0.5 nats per code against 9.9: expect it to repeat them"),
        (4.1, 4.7, "was not examined"),
    ):
        changed = training.model_copy(update={"loss": seen, "validation": {"validation_loss": held_out}})
        (har / "card.json").write_text(record_text(Record(training=changed)))
        assert restok("models", "card", har, "--overwrite").code == 0
        assert words in (har / "README.md").read_text()


def test_numbers_of_a_run_that_went_wrong_can_be_read_again(run, tokenizer, restok):
    training = read_record(run / "model").training.model_copy(update={"validation": {"validation_psnr": float("nan")}})
    (tokenizer / "card.json").write_text(record_text(Record(training=training)))
    assert restok("models", "card", tokenizer).code == 0
    assert "| PSNR, dB | nan |" in (tokenizer / "README.md").read_text()
