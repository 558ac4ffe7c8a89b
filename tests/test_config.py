"""Settings: where they come from, what goes over what, and what a wrong one is answered with."""

import pytest
import yaml

from restok_cli.commands.options import parse_image_size
from restok_cli.errors import UsageError
from restok_cli.settings import training as config
from restok_cli.settings.changes import MAY_CHANGE, WEIGHT_FILES, differences
from restok_cli.settings.idle import SWITCHES, idle_assignments
from restok_cli.settings.precedence import Layer, kind_of, known_keys, layers_of, over_presets, rescaled, resolve
from restok_cli.settings.presets import preset_names, read_preset
from restok_cli.settings.recorded import read_config, write_config
from restok_cli.settings.run_config import read_told
from restok_cli.settings.training import (
    RUN_CONFIGS,
    DataConfig,
    HarRunConfig,
    TokenizerRunConfig,
    TokenizerScheduleConfig,
)
from restok_cli.settings.yaml_file import flatten, merged, parse_value, parse_yaml


def settings(tmp_path, text, *assignments, kind="tokenizer", preset=None, **options):
    """The settings of a command line with a config file of this text."""
    file = tmp_path / "run.yaml"
    file.write_text(text)
    named = {f"schedule.{name}": (f"--{name}", value) for name, value in options.items()}
    return resolve(kind, layers_of(kind, preset, file, assignments, named))


def test_options_go_over_set_over_the_file_over_the_preset(tmp_path):
    text = "preset: tiny\nschedule:\n  max_steps: 7\n  batch_size: 5\n  seed: 3\n"
    config, origins = settings(tmp_path, text, "schedule.batch_size=6", "schedule.seed=4", seed=5)
    schedule = config.schedule
    assert (schedule.ema_decay, schedule.max_steps, schedule.batch_size, schedule.seed) == (0.9, 7, 6, 5)
    file = tmp_path / "run.yaml"
    assert {key: origins.get(f"schedule.{key}") for key in ("ema_decay", "max_steps", "batch_size", "seed")} == {
        "ema_decay": "preset tiny",
        "max_steps": f"{file}:3",
        "batch_size": "--set",
        "seed": "--seed",
    }
    assert "schedule.micro_batch_size" not in origins  # a default


def test_the_image_size_is_one_option_and_one_side_alone_is_refused(tmp_path):
    def told(*assignments, image_size=None):
        return read_told("tokenizer", tmp_path, False, "tiny", None, assignments, None, None, None, image_size)

    assert told(image_size=parse_image_size("64")).config.model.image_size == (64, 64)
    assert told(image_size=parse_image_size("64x40")).config.model.image_size == (40, 64)
    assert told("model.image_height=40", "model.image_width=64").config.model.image_size == (40, 64)
    with pytest.raises(UsageError, match=r"^--set: model\.image_width = 64 is set without model\.image_height; .* 64 "):
        _ = told("model.image_width=64").config
    with pytest.raises(UsageError, match="image_height = 40 is set without"):
        settings(tmp_path, "preset: tiny\nmodel: {image_height: 40}")


@pytest.mark.parametrize("text", ["", "0", "64x", "x64", "64x0", "64X64", "64x64x64", "-64", "64.0", "²", "9" * 5000])
def test_what_is_no_image_size_is_refused(text):
    with pytest.raises(UsageError, match=r"^--image-size .*: give the pixels of a side, such as 128, or"):
        parse_image_size(text)


def test_a_generator_has_the_image_size_of_its_tokenizer(fails, tmp_path):
    line = fails(2, "train-har", "sample", "--tokenizer", "sample", "-o", tmp_path / "har", "--image-size", "128x96")
    assert line.startswith("restok: --image-size 128x96: the tokenizer ") and " is for images of 64x64, " in line
    assert not (tmp_path / "har").exists()


def test_what_is_not_given_changes_nothing(tmp_path):
    assert settings(tmp_path, "preset: tiny\n", max_steps=None).config.schedule.max_steps == 80
    assert settings(tmp_path, "").config == TokenizerRunConfig()
    assert settings(tmp_path, "schedule:\ndata:\n").config == TokenizerRunConfig()  # sections that state nothing


def test_a_preset_on_the_command_line_replaces_that_of_the_file(tmp_path):
    assert settings(tmp_path, "preset: tiny", preset="sample").config.model.image_size == (64, 64)


def test_without_a_file_the_preset_is_the_sample():
    assert resolve("har", layers_of("har", None, None)).config == HarRunConfig.parse(read_preset("har", "sample"), "")


def test_the_config_that_a_run_writes_is_a_config_file_that_says_the_same(tmp_path):
    config = TokenizerRunConfig.parse(read_preset("tokenizer", "tiny"), "tiny")
    write_config(config, tmp_path / "config.yaml")
    for path in (tmp_path, tmp_path / "config.yaml"):
        assert resolve("tokenizer", layers_of("tokenizer", None, path)).config == config
    assert TokenizerRunConfig.parse(read_config(tmp_path / "config.yaml"), "file") == config


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "0.0001", "1.0e-04", ".0001"])
def test_numbers_are_numbers_in_every_notation(tmp_path, text):
    assert settings(tmp_path, f"optimizer: {{learning_rate: {text}}}").config.optimizer.learning_rate == 1e-4
    assert settings(tmp_path, "", f"optimizer.learning_rate={text}").config.optimizer.learning_rate == 1e-4


def test_whole_numbers_may_be_written_with_an_exponent_a_zero_or_underscores(tmp_path):
    for text, value in (("1e6", 1_000_000), ("1_000", 1000), ("010", 10)):
        assert settings(tmp_path, f"schedule: {{max_steps: {text}}}").config.schedule.max_steps == value


def test_words_that_yaml_1_1_takes_for_truth_stay_words():
    values = parse_yaml("on: no\nyes: off\nx: 1:30\ny: 2026-11-22\nz: true\nn: null\n", "test").values
    assert values == {"on": "no", "yes": "off", "x": "1:30", "y": "2026-11-22", "z": True, "n": None}


def test_plain_yaml_is_read_as_pyyaml_reads_it():
    text = yaml.safe_dump(TokenizerRunConfig().model_dump(mode="json"))
    assert parse_yaml(text, "test").values == yaml.safe_load(text)
    text = "base: &b {x: 1, y: [1, 2.5, -3]}\nother: {<<: *b, x: 2}\ns: 'no'\ni: .inf\nm: |\n  two\n  lines\n"
    assert parse_yaml(text, "test").values == yaml.safe_load(text)


def test_every_key_knows_its_line():
    lines = parse_yaml("# comment\na:\n  b: 1\n\n  c: {d: 2}\ne: 3\n", "test").lines
    assert lines == {"a": 2, "a.b": 3, "a.c": 5, "a.c.d": 5, "e": 6}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer:\n  lerning_rate: 1", ":2: unknown key optimizer.lerning_rate (did you mean learning_rate?)"),
        ("learning_rate: 1", ":1: unknown key learning_rate (did you mean optimizer.learning_rate?)"),
        ("\nshedule: {}", ":2: unknown key shedule (did you mean schedule?)"),
        ("optimizer: 5", ":1: optimizer = 5, but it is a section, with the keys schedule, learning_rate,"),
        ("schedule:\n  seed: 1\n  max_steps: many", ":3: schedule.max_steps = 'many': input should be a valid integer"),
        ("schedule: {max_steps: 0}", ":1: schedule.max_steps = 0: input should be greater than or equal to 1"),
        ("schedule: {max_steps: 1.5}", ":1: schedule.max_steps = 1.5: input should be a valid integer"),
        ("schedule: {max_steps: true}", ":1: schedule.max_steps = True: input should not be true or false"),
        ("data: {random_flip: maybe}", ":1: data.random_flip = 'maybe': input should be a valid boolean"),
        ("data:\n  random_crop_area: [1, x]", ":2: data.random_crop_area.1 = 'x': input should be a valid number"),
        ("compute: {compile: maybe}", ":1: compute.compile = 'maybe': input should be 'auto', True or False"),
        ("compute: {gradient_checkpointing: 3}", ":1: unknown key compute.gradient_checkpointing"),
        ("compute: {gradient_checkpointing: true, memory: fast}", ":1: unknown key compute.gradient_checkpointing"),
        ("compute: {precision: fp8}", ":1: compute.precision = 'fp8': input should be 'float32', 'bf16' or 'fp16'"),
        ("optimizer: {learning_rate: .inf}", ":1: optimizer.learning_rate = inf: input should be a finite number"),
        ("optimizer: {learning_rate: .nan}", ":1: optimizer.learning_rate = nan: input should be"),
        ("model: {num_stages: 7}", ": num_stages = 7 cannot be made from rows of 16 image tokens"),
        ("preset: tny", ":1: no preset named tny (did you mean tiny?); there are: "),
        ("\npreset: har-l", ":2: har-l is a preset of train-har; train-tokenizer has: "),
        ("preset: [tiny]", ":1: preset = ['tiny'] is no name of a preset"),
        ("a: 1\nb: 2\na: 3", ":3: a is stated twice, first in line 1"),
        ("schedule:\n  seed: 1\n  seed: 2", ":3: schedule.seed is stated twice, first in line 2"),
        ("a: [", ":1: not YAML: expected the node content"),
        ("a: !!python/object:os.system x", ":1: not YAML: could not determine a constructor"),
        ("a: &a {b: *a}", ": not YAML: "),
        ("{[1]: 2}", ":1: a key must be a word"),
        ("- 1", " holds no config: keys and values"),
        ("words", " holds no config: keys and values"),
        ("a: \x01", ": not YAML: unacceptable character"),
    ],
)
def test_mistakes_in_a_file_are_named_with_file_line_key_and_value(tmp_path, text, message):
    with pytest.raises(UsageError) as error:
        settings(tmp_path, text)
    assert f"{tmp_path / 'run.yaml'}{message}" in str(error.value)


def test_a_file_that_is_no_text_or_not_there_is_named(tmp_path):
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe\x00")
    for name, message in (("run.yaml", "not text in UTF-8"), ("none.yaml", "No such file"), (".", "no config.yaml")):
        with pytest.raises(UsageError, match=message):
            layers_of("har", None, tmp_path / name)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"schedule": {"batch_size": 10, "micro_batch_size": 3}},
            "batch_size = 10 is not a multiple of micro_batch_size = 3",
        ),
        ({"schedule": {"save_every": 4, "keep_every": 6}}, "keep_every = 6 is not a multiple of save_every = 4"),
        ({"optimizer": {"learning_rate": 1e-6}}, "final_learning_rate = 1e-05 is above learning_rate = 1e-06"),
        ({"optimizer": {"schedule": "wsd"}}, "schedule = wsd needs decay_steps"),
        (
            {"optimizer": {"schedule": "wsd", "decay_steps": 10}, "schedule": {"max_steps": 5000}},
            "optimizer.warmup_steps = 5000 and optimizer.decay_steps = 10 do not fit into its 5000 steps",
        ),
        ({"data": {"random_crop_area": [1, 0.5]}}, "random_crop_area = [1.0, 0.5] is no range"),
        ({"data": {"random_zoom": [1.2, 1]}}, "random_zoom = [1.2, 1.0] is no range"),
    ],
)
@pytest.mark.parametrize("kind", RUN_CONFIGS)
def test_values_that_do_not_go_together_are_refused_with_both(kind, values, message):
    with pytest.raises(UsageError) as error:
        RUN_CONFIGS[kind].parse(values, "test")
    assert message in str(error.value)


def test_a_prefix_that_cannot_be_shorter_is_refused(tiny_config):
    for min_tokens in (17, 32):
        values = {"model": tiny_config.model_dump(), "nested_dropout": {"min_tokens": min_tokens}}
        with pytest.raises(UsageError, match=rf"nested_dropout\.min_tokens = {min_tokens} leaves no shorter prefix"):
            TokenizerRunConfig.parse(values, "test")


def test_unknown_keys_deep_in_a_config_are_refused():
    with pytest.raises(UsageError, match=r"unknown key optimizer\.lerning_rate \(did you mean learning_rate\?\)"):
        TokenizerRunConfig.parse({"optimizer": {"lerning_rate": 1}}, "test")


def test_a_generator_keeps_its_own_defaults_where_a_preset_says_nothing():
    config = HarRunConfig.parse({"optimizer": {"learning_rate": 1}, "schedule": {"seed": 1}}, "test")
    assert (config.optimizer.weight_decay, config.optimizer.max_grad_norm) == (0.05, 1.0)
    assert config.schedule.max_steps == 1_500_000


def test_merged_lays_changes_over_sections():
    assert merged({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}, "d": 4}) == {"a": {"b": 1, "c": 3}, "d": 4}
    assert merged({"a": 1}, {"a": {"b": 2}}) == {"a": {"b": 2}}


def test_what_data_set_and_tokenizer_decide_cannot_be_contradicted(tmp_path):
    facts = Layer("facts", {"model.num_codes": 32, "model.num_classes": 98}, {"model.num_codes": "the tokenizer t"})
    (tmp_path / "run.yaml").write_text("model:\n  num_codes: 64\n")
    with pytest.raises(UsageError, match=r"run\.yaml:2: model\.num_codes = 64, but the tokenizer t has 32; give what"):
        resolve("har", layers_of("har", "tiny", tmp_path / "run.yaml"), facts)
    same = layers_of("har", "tiny", None, ["model.num_codes=32"])
    config, origins = resolve("har", same, facts)
    assert config.model.num_classes == 98 and origins["model.num_codes"] == "the tokenizer t"


def test_the_model_that_a_run_starts_from_goes_over_the_preset_and_under_what_is_asked_for(tmp_path):
    model = Layer("--init m", {"model.width": 64, "model.num_layers": 1})
    layers = over_presets(layers_of("har", "tiny", None, ["model.num_layers=3"]), model)
    config, origins = resolve("har", layers)
    assert (config.model.width, config.model.num_layers) == (64, 3) and origins["model.width"] == "--init m"


@pytest.mark.parametrize("kind", RUN_CONFIGS)
def test_the_lists_of_changeable_settings_name_settings(kind):
    assert set.union(*(known_keys(config) for config in RUN_CONFIGS.values())) >= MAY_CHANGE | WEIGHT_FILES
    assert flatten(RUN_CONFIGS[kind]().model_dump()).keys() == known_keys(RUN_CONFIGS[kind])


def test_differences_name_both_values():
    one, other = HarRunConfig(), HarRunConfig.parse({"schedule": {"seed": 3}, "model": {"width": 64}}, "test")
    assert differences(one, other) == {"model.width": (1024, 64), "schedule.seed": (0, 3)}


@pytest.mark.parametrize("text", ["{a: 1}", "[1, 2]", "1e-4", "no", "null"])
def test_values_of_set_are_those_of_a_file(text):
    assert parse_value(text, "test") == parse_yaml(f"x: {text}", "test").values["x"]


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("max_steps", "--set max_steps: write SECTION.KEY=VALUE"),
        ("schedule..seed=1", "write SECTION.KEY=VALUE"),
        ("=1", "write SECTION.KEY=VALUE"),
        ("schedule.seed=", "--set schedule.seed=: no value after the ="),
        ("schedule={seed: 1, seed: 2}", "seed is stated twice, first in line 1"),
        ("schedule.seed=[", "--set schedule.seed=[: not YAML"),
        ("schedule.seed=x", "--set: schedule.seed = 'x': input should be a valid integer"),
        ("schedule.sed=1", "--set: unknown key schedule.sed (did you mean seed?)"),
        ("schedule=1", "--set: schedule = 1, but it is a section, with the keys max_steps"),
        ("schedule.seed.x=1", "--set: schedule.seed = {'x': 1}: input should be a valid integer"),
    ],
)
def test_wrong_assignments_are_refused(fails, tmp_path, assignment, message):
    assert message in fails(2, "train-har", "sample", "--tokenizer", "t", "-o", tmp_path / "run", "--set", assignment)
    assert message in fails(2, "config", "show", "har-l", "--set", assignment)


def test_lengths_of_a_preset_are_rescaled_to_fewer_steps_and_no_others(tmp_path):
    def lengths(kind, preset, *assignments, file=None, steps=None):
        layers = layers_of(kind, preset, file, assignments, {"schedule.max_steps": ("--max-steps", steps)})
        layers, said = rescaled(kind, layers)
        found = resolve(kind, layers)
        optimizer = found.config.optimizer
        return (optimizer.warmup_steps, optimizer.decay_steps), said, found

    (warmup, decay), said, found = lengths("tokenizer", "sample", steps=500)
    assert (warmup, decay) == (100 * 500 // 2600, 700 * 500 // 2600)
    assert said == (
        "--max-steps: 500 steps of the preset's 2600, so optimizer.warmup_steps 100 → 19, "
        "optimizer.decay_steps 700 → 134"
    )
    assert found.origins["optimizer.decay_steps"] == "700 of preset sample, rescaled to --max-steps"
    assert lengths("tokenizer", "sample", "schedule.max_steps=500")[0] == (19, 134)
    assert lengths("tokenizer", "sample", "optimizer.decay_steps=200", steps=500)[0] == (19, 200)
    (tmp_path / "run.yaml").write_text("preset: sample\noptimizer: {warmup_steps: 50}\n")
    assert lengths("tokenizer", None, file=tmp_path / "run.yaml", steps=500)[0] == (50, 134)
    (tmp_path / "run.yaml").write_text("preset: sample\nschedule: {max_steps: 2000}\n")  # a file is taken as it is
    assert lengths("tokenizer", None, file=tmp_path / "run.yaml")[:2] == ((100, 700), "")
    for steps in (None, 2600, 10_000):
        assert lengths("tokenizer", "sample", steps=steps)[:2] == ((100, 700), "")
    with pytest.raises(UsageError, match="do not fit into its 500 steps"):
        lengths("tokenizer", "sample", "optimizer.decay_steps=501", steps=500)
    with pytest.raises(UsageError, match=r"schedule\.max_steps = 'few'"):
        lengths("tokenizer", "sample", "schedule.max_steps=few")


@pytest.mark.parametrize("kind", ["tokenizer", "har"])
def test_every_preset_can_be_run_for_any_smaller_number_of_steps(kind):
    for preset in preset_names(kind):
        for steps in (1, 2, 7, 500):
            layers = layers_of(kind, preset, None, [f"schedule.max_steps={steps}"])
            config = resolve(kind, rescaled(kind, layers)[0]).config
            assert config.optimizer.warmup_steps <= steps, preset
    paper = layers_of("tokenizer", "restok-l-128", None, ["schedule.max_steps=1000"])
    config = resolve("tokenizer", rescaled("tokenizer", paper)[0]).config
    assert (config.optimizer.warmup_steps, config.discriminator.start_step) == (5, 20)
    assert config.discriminator.optimizer.warmup_steps == 5


def test_a_run_that_resumes_has_the_lengths_that_it_began_with(tmp_path):
    def run(resume, max_steps):
        told = read_told("tokenizer", tmp_path, resume, "sample", None, [], max_steps, None, None)
        return told.config, told.rescaling

    begun, said = run(False, 500)
    assert said
    write_config(begun, tmp_path / "config.yaml")
    assert run(True, 500) == (begun, "")
    longer, said = run(True, 800)
    assert (longer.schedule.max_steps, longer.optimizer, said) == (800, begun.optimizer, "")


def test_whose_config_it_is_shows_in_presets_and_keys(tmp_path):
    for text, kind in (("preset: har-l", "har"), ("preset: restok-s-128", "tokenizer"), ("model: {width: 64}", "har")):
        (tmp_path / "run.yaml").write_text(text)
        assert kind_of([tmp_path / "run.yaml"]) == kind
        assert kind_of([tmp_path / "run.yaml", "tiny"]) == kind
    with pytest.raises(UsageError, match="are for different trainers"):
        kind_of(["har-l", "restok-s-128"])


@pytest.mark.parametrize(
    ("setting", "device", "cores", "processes", "expected"),
    [
        ("auto", "cuda", 12, None, 11),
        ("auto", "cuda", 64, "8", 7),
        ("auto", "cuda", 200, "", 16),
        ("auto", "cuda", 1, None, 0),
        ("auto", "cuda", 4, "8", 0),
        ("auto", "cpu", 12, None, 0),
        (3, "cpu", 1, "8", 3),
        (0, "cuda", 12, None, 0),
    ],
)
def test_loading_takes_the_cores_that_training_leaves(monkeypatch, setting, device, cores, processes, expected):
    monkeypatch.setattr(config, "available_cores", lambda: cores)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if processes is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    data = DataConfig(num_workers=setting)
    loading = data.loading(device)
    assert loading == data.model_dump(exclude={"max_member_bytes"}) | {"num_workers": expected}


@pytest.mark.parametrize("value", [f"validation_images={value}" for value in ("0", "-1", "every", "false", "null")])
def test_numbers_of_images_to_validate_on_that_are_none_are_refused(fails, tmp_path, value):
    line = fails(
        2, "train-har", "sample", "--tokenizer", "sample", "-o", tmp_path / "run", "--set", f"schedule.{value}"
    )
    assert "is neither a number from 1 on nor all" in line


def test_a_run_may_validate_on_all_images_or_on_some():
    limits = {value: TokenizerScheduleConfig(validation_images=value).validation_limit for value in ("all", 1, 50_000)}
    assert limits == {"all": None, 1: 1, 50_000: 50_000}


@pytest.mark.parametrize("value", ["-1", "many", "true", "2.5", "null"])
def test_a_number_of_workers_that_is_none_is_refused(fails, tmp_path, value):
    line = fails(2, "train-tokenizer", "sample", "-o", tmp_path / "run", "--set", f"data.num_workers={value}")
    assert "is neither a number from 0 on nor auto" in line


@pytest.mark.parametrize(
    ("stated", "idle"),
    [
        ("discriminator.start_step=3", "discriminator.start_step changes nothing: discriminator.weight = 0.0"),
        ("alignment.margin=0.1", "alignment.encoder_weight = 0.0 and alignment.decoder_weight = 0.0"),
        (
            "optimizer.decay_steps=9 optimizer.schedule=cosine",
            "changes nothing: optimizer.schedule = cosine",
        ),
        ("data.crop=centre data.random_zoom=[1,2]", "--set data.random_zoom changes nothing: data.crop = centre"),
        ("discriminator.start_step=3 discriminator.weight=0.5", None),
        ("alignment.margin=0.1 alignment.encoder_weight=1", None),
    ],
)
def test_what_set_states_for_nothing_is_said(stated, idle):
    layers = layers_of("tokenizer", "tiny", None, stated.split())
    found = idle_assignments(layers, resolve("tokenizer", layers).config)
    assert (idle in found[0] and len(found) == 1) if idle else not found


def test_switches_and_what_they_switch_off_are_settings():
    known = known_keys(TokenizerRunConfig)
    for switches, _, begin in SWITCHES:
        assert known.issuperset(switches) and any(key.startswith(begin) for key in known)
