"""`restok config`: settings shown, compared, validated and described."""

import json
import random
import subprocess
import sys

import pytest
import yaml

from restok_cli.errors import RestokError, UsageError
from restok_cli.settings.precedence import known_keys, layers_of, resolve
from restok_cli.settings.run_config import read_told
from restok_cli.settings.training import RUN_CONFIGS, TokenizerRunConfig


def test_shown_settings_are_a_config_file_with_origins(restok, tmp_path):
    result = restok("config", "show", "sample", "--kind", "tokenizer", "--set", "schedule.seed=3")
    assert result.code == 0 and result.err == ""
    assert "  seed: 3  # --set\n" in result.out and "  image_height: 64  # preset sample\n" in result.out
    assert "  patch_size: 8  # preset sample\n" in result.out and "  merge: average\n" in result.out
    (tmp_path / "shown.yaml").write_text(result.out)
    shown = restok("config", "show", tmp_path / "shown.yaml", "--json")
    expected = resolve("tokenizer", layers_of("tokenizer", "sample", None, ["schedule.seed=3"])).config
    assert json.loads(shown.out)["config"] == expected.model_dump(mode="json")


def test_a_difference_is_one_line(restok):
    result = restok("config", "diff", "har-l", "ar-l")
    assert (result.code, result.out) == (0, "model.num_sequential_codes: 4 → 128\n")
    assert json.loads(restok("config", "diff", "tiny", "ar-l", "--json").out)["model.num_layers"] == [2, 24]
    assert restok("config", "diff", "har-l", "har-l").out == ""


def test_validating_says_which_command_takes_a_file(restok, fails, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("loss:\n  entropy_weight: 0.1\n")
    assert restok("config", "validate", file).out == f"{file}: valid for restok train-tokenizer\n"
    file.write_text("loss:\n  entropie_weight: 0.1\n")
    assert f"{file}:2: unknown key loss.entropie_weight" in fails(2, "config", "validate", file)
    assert f"{file}:1: unknown key loss" in fails(2, "config", "validate", file, "--kind", "har")


def test_a_file_that_either_trainer_could_take_is_checked_for_both(restok, fails, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("schedule: {seed: 1}")
    assert restok("config", "validate", file).out == f"{file}: valid for restok train-tokenizer and restok train-har\n"
    file.write_text("schedule:\n  sed: 1\n")
    assert f"{file}:2: unknown key schedule.sed (did you mean seed?)" in fails(2, "config", "validate", file)
    file.write_text("preset: sample\nschedule: {max_steps: 750}")  # both have a preset of that name
    result = restok("config", "validate", file)
    assert result.out == f"{file}: valid for restok train-har\n"
    assert result.err.startswith("not for restok train-tokenizer: ") and "do not fit into its 750 steps" in result.err
    file.write_text("preset: sample\nmodel: {width: wide}")
    assert f"{file}:2: model.width = 'wide': input should be a valid integer" in fails(2, "config", "validate", file)


def test_unknown_sources_are_refused_with_the_nearest_preset(fails):
    assert "har-ll: no such preset, config file or run (did you mean har-l?)" in fails(2, "config", "show", "har-ll")


@pytest.mark.parametrize("kind", RUN_CONFIGS)
def test_the_schema_knows_every_key_and_the_presets(restok, kind):
    schema = json.loads(restok("config", "schema", kind).out)
    assert "tiny" in schema["properties"]["preset"]["enum"]
    found = set()

    def walk(node, prefix):
        for name, value in node["properties"].items():
            inner = value.get("$ref") or value.get("allOf", [{}])[0].get("$ref")
            if inner:
                walk(schema["$defs"][inner.rpartition("/")[2]], f"{prefix}{name}.")
            else:
                found.add(prefix + name)
        assert node["additionalProperties"] is False

    walk(schema, "")
    assert found - {"preset"} == known_keys(RUN_CONFIGS[kind])


def test_config_commands_import_nothing_heavy():
    code = (
        "import sys; from restok_cli.cli import run; run(['config', 'show', 'har-l']);"
        "print(sorted({'torch', 'numpy', 'PIL', 'safetensors'} & set(sys.modules)), file=sys.stderr)"
    )
    result = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "[]" and "num_layers: 24" in result.stdout


@pytest.mark.parametrize("text", ["", "just words", "a: [", "\udcff"])
def test_a_damaged_config_of_a_run_is_named(tmp_path, text):
    (tmp_path / "config.yaml").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(RestokError, match=r"config\.yaml.*; restore it, .*or start another run"):
        read_told("har", tmp_path, True, None, None, None, None, None, None)


def test_a_spoiled_file_is_either_still_a_config_or_answered_in_one_line_that_names_it(tmp_path):
    file = tmp_path / "run.yaml"
    lines = yaml.safe_dump(TokenizerRunConfig().model_dump(mode="json"), sort_keys=False).splitlines(keepends=True)
    spoilers = [*":{}[]&*!|>'\"%@`#,?-~.\n\t 0e\x00é", "null", "true", "<<: *a", "&a ", "!!int ", "!!timestamp ", "? "]
    spoilers += ["1e999", "9" * 5000, "---\n", "preset: tiny\n", "[" * 2000]
    rng = random.Random(0)
    read = refused = 0
    for _ in range(300):
        text = "".join(lines[: rng.randrange(1, len(lines))])
        place = rng.randrange(len(text))
        file.write_text(text[:place] + rng.choice(spoilers) + text[place + rng.choice([0, 0, 1, 5]) :])
        try:
            resolve("tokenizer", layers_of("tokenizer", None, file))
            read += 1
        except UsageError as error:
            assert "\n" not in str(error) and str(file) in str(error)
            refused += 1
    assert read and refused
