"""Files whose metadata, weights and names are not what restok writes: one line, and nothing that a terminal obeys."""

import json
import shutil

import numpy as np
import pytest
import torch
from pictures import write_pictures
from safetensors.torch import load_file
from test_codes import make_cache
from test_prepare_codes import make_data
from test_report import write_result, write_run

from restok_cli.console import UNPRINTABLE
from restok_cli.data.loading.code_batches import code_batches
from restok_cli.data.shards.code_cache import open_codes
from restok_cli.errors import RestokError
from restok_cli.files import FIELDS_CRC
from restok_cli.pretrained.folder import open_har
from restok_cli.pretrained.modules import load_model, save_released

HUGE = 10**25
SURROGATE = "\ud800"
HOSTILE = "\x1b]0;owned\x07\x9b31m \u202egpj.[red]"
SHOWN = r"\x1b]0;owned\x07\x9b31m \u202egpj.[red]"


def change(file, keys, value):
    """Put a value in the place that dotted keys name in a JSON file, or take it away; and the file's digest."""
    fields = json.loads(file.read_text())
    fields.pop("fields_crc32", None)
    *parents, name = keys.split(".")
    place = fields
    for parent in parents:
        place = place[int(parent) if isinstance(place, list) else parent]
    if value is GONE:
        del place[name]
    else:
        place[int(name) if isinstance(place, list) else name] = value
    if isinstance(fields, dict):
        fields.pop(FIELDS_CRC, None)  # which would tell before all else that something was changed
    file.write_text(json.dumps(fields))


GONE = object()


# --- models -------------------------------------------------------------------------------------------------------


@pytest.fixture
def har(tiny_models, tmp_path):
    shutil.copytree(tiny_models / "har", tmp_path / "har")
    (tmp_path / "har" / "checksums.json").unlink()  # which would tell before all else that something was changed
    return tmp_path / "har"


@pytest.mark.parametrize(
    ("keys", "value", "code", "said"),
    [
        ("config.num_layers", 10**9, 2, "num_layers = 1000000000: input should be less than or equal to 1000"),
        ("config.width", HUGE, 2, "width = 1"),
        ("config.width", "32x", 2, "width = '32x'"),
        ("config.num_classes", 10**12, 2, "num_classes = 1000000000000"),
        ("config", [], 1, "config = []: input should be"),
        ("config", GONE, 1, "config is missing"),
        ("class_names", GONE, 1, "class_names is missing"),
        ("class_names.0", SURROGATE, 1, "invalid JSON"),
        ("class_names.0", 7, 1, "class_names.0 = 7: input should be a valid string"),
        ("tokenizer_fingerprint", 7, 1, "tokenizer_fingerprint = 7"),
    ],
)
def test_a_models_config_is_checked(har, fails, keys, value, code, said):
    change(har / "config.json", keys, value)
    line = fails(code, "models", "show", har)
    assert "config.json" in line and said in line


@pytest.mark.parametrize("text", [b"[]", b"\xff", b"[" * 5000, b"", b'"config"'])
def test_a_config_that_is_none_is_refused(har, fails, text):
    (har / "config.json").write_bytes(text)
    assert "config.json is wrong: " in fails(1, "models", "show", har)


@pytest.mark.parametrize(
    ("keys", "value", "code", "said"),
    [
        ("block_size", "32", 1, "block_size = '32': input should be a valid integer"),
        ("dim", HUGE, 2, "width = 1"),
        ("num_classes", 10**12, 2, "num_classes = 1000000000000"),
        ("n_head", GONE, 1, "n_head is missing"),
        ("resid_dropout_p", float("nan"), 2, "residual_dropout = nan"),
        ("model", 3, 0, ""),  # that of a tokenizer has settings there
        ("model", {"vq_model": []}, 1, "model.vq_model = []: input should be"),
    ],
)
def test_a_released_config_is_checked(tiny_models, tmp_path, restok, keys, value, code, said):
    save_released(load_model(open_har(tiny_models / "har"), torch.device("cpu")), tmp_path / "released")
    (tmp_path / "released" / "checksums.json").unlink()
    change(tmp_path / "released" / "config.json", keys, value)
    result = restok("models", "show", tmp_path / "released")
    assert result.code == code and said in result.err


NAME = "head.weight"


@pytest.mark.parametrize(
    "make",
    [
        lambda state: [],
        lambda state: {"a": {"b": 1}},
        lambda state: {1: torch.zeros(2)},
        lambda state: state | {NAME: state[NAME][:1]},
        lambda state: state | {NAME: state[NAME].T},
        lambda state: state | {NAME: state[NAME].long()},
        lambda state: state | {NAME: state[NAME].cfloat()},
        lambda state: state | {NAME: state[NAME].to_sparse()},
        lambda state: state | {NAME: torch.empty(state[NAME].shape, device="meta")},
        lambda state: state | {NAME: torch.quantize_per_tensor(state[NAME], 0.1, 0, torch.qint8)},
        lambda state: state | {NAME: "no tensor"},
        lambda state: state | {HOSTILE: state[NAME]},
    ],
)
@pytest.mark.filterwarnings("ignore")  # torch's, of what these tensors are
def test_pickled_weights_that_are_not_the_models_are_refused(tiny_models, tmp_path, fails, make):
    save_released(load_model(open_har(tiny_models / "har"), torch.device("cpu")), tmp_path / "released")
    weights = tmp_path / "released" / "model.safetensors"
    state = {name.replace("output.weight", NAME): tensor for name, tensor in load_file(weights).items()}
    state = make(state)
    if isinstance(state, dict) and NAME in state:
        state["output.weight"] = state.pop(NAME)
    weights.unlink()
    (tmp_path / "released" / "checksums.json").unlink(missing_ok=True)
    torch.save(state, tmp_path / "released" / "pytorch_model.bin")
    line = fails(1, "models", "convert", tmp_path / "released", tmp_path / "out")
    assert "pytorch_model.bin" in line and not UNPRINTABLE.search(line)


def test_a_card_without_the_step_of_its_numbers_is_refused(har, fails):
    training = {"restok": "1", "torch": "2", "preset": "tiny", "changes": {}, "steps": 1, "max_steps": 1}
    training |= {"batch_size": 1, "data_name": "x", "data_fingerprint": "y", "init": None, "validation_step": None}
    (har / "card.json").write_text(json.dumps({"training": training | {"validation": {"validation_loss": 1.0}}}))
    assert "card.json is wrong: training: validation has numbers" in fails(1, "models", "card", har)


# --- data and codes -----------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path):
    return make_data(tmp_path / "data", {"train": 1, "validation": 5})


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        ("splits.train.shards.0.num_samples", HUGE, "num_samples = 1"),
        ("splits.train.shards.0.num_samples", 2**50, "has no room for 1125899906842624 samples"),
        ("splits.train.shards.0.bytes", -1, "bytes = -1"),
        ("splits.train.shards.0.file", "../x.tar", "file = '../x.tar'"),
        ("splits.train.num_samples", 2**64, "num_samples = 18446744073709551616"),
        ("class_names.0", SURROGATE, "invalid JSON"),
        ("class_names.0", None, "class_names.0 = None"),
        ("image_size", [40, HUGE], "image_size.1 = 1"),
        ("format_version", {HOSTILE: 1}, "has format"),
    ],
)
def test_a_data_sets_manifest_is_checked(data, fails, keys, value, said):
    change(data / "dataset.json", keys, value)
    line = fails(1, "prepare", "verify", data)
    assert "dataset.json" in line and said in line and not UNPRINTABLE.search(line)


@pytest.mark.parametrize(("field", "value"), [("offset", 2**64 - 1), ("offset", 2**40), ("offset", 0), ("class_id", 9)])
def test_an_index_that_points_nowhere_is_refused(data, tiny_models, tmp_path, fails, field, value):
    index = np.load(data / "validation-000001.npy")
    index[field][-1] = value
    np.save(data / "validation-000001.npy", index)
    line = fails(1, "encode", data, "--model", tiny_models / "tokenizer", "-o", tmp_path / "codes.jsonl")
    assert "validation-000001.npy" in line


@pytest.mark.parametrize(("field", "value"), [("class_id", 99), ("class_id", -1), ("codes", 60_000)])
def test_labels_and_codes_that_do_not_exist_are_refused(tmp_path, field, value):
    make_cache(tmp_path / "codes", {"train": np.zeros((4, 10, 6), int)})
    shard = tmp_path / "codes" / "train-000000.npy"
    records = np.load(shard)
    records[field][2] = value
    np.save(shard, records)
    with pytest.raises(RestokError, match=r"train-000000\.npy"):
        next(code_batches(open_codes(tmp_path / "codes").split("train"), batch_size=4, seed=0))


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        ("splits.train", [], "splits.train = []"),
        ("splits.train.0.num_samples", HUGE, "num_samples = 1"),
        ("splits.train.0.num_samples", 2**60, "has no room for"),
        ("views", {}, "nothing is said of the views of train"),
        ("codebook_size", 2**40, "codebook_size = 1099511627776"),
        ("num_codes", 2**40, "num_codes = 1099511627776"),
        ("class_names", ["a", SURROGATE], "invalid JSON"),
    ],
)
def test_a_code_caches_manifest_is_checked(tmp_path, fails, keys, value, said):
    make_cache(tmp_path / "codes", {"train": np.zeros((4, 10, 6), int)})
    change(tmp_path / "codes" / "codes.json", keys, value)
    line = fails(1, "evaluate", tmp_path / "codes", "--metric", "codebook")
    assert "codes.json is wrong: " in line and said in line


# --- runs and results ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("starts.jsonl", '{"command": "restok"}', "starts.jsonl, line 1 is wrong: step is missing"),
        ("starts.jsonl", "[]", "starts.jsonl, line 1 is wrong: []"),
        ("metrics.jsonl", '{"loss": 1.0}', "metrics.jsonl, line 1 is wrong: step is missing"),
        ("metrics.jsonl", f'{{"step": {HUGE}, "loss": 1.0}}', "step = 1"),
        ("metrics.jsonl", '{"step": 1, "loss": "low"}', "loss"),
    ],
)
def test_a_run_record_is_checked(tmp_path, fails, file, text, said):
    run = write_run(tmp_path / "run")
    (run / file).write_text(text + "\n", encoding="latin-1")
    line = fails(1, "report", run, "-o", tmp_path / "report.html")
    assert said in line and not UNPRINTABLE.search(line)


def test_a_number_of_400_digits_is_no_point_of_a_curve(tmp_path, restok):
    run = write_run(tmp_path / "run")
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 13, "loss": 1%s}\n' % ("0" * 400))
    assert restok("report", run, "-o", tmp_path / "report.html").code == 0


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        ("metrics", [], "metrics = []"),
        ("metrics", {}, "metrics = {}"),
        ("metrics.psnr.value", "20", "metrics.psnr.value = '20'"),
        ("metrics.psnr.value", float("nan"), "metrics.psnr.value = nan"),
        ("metrics.psnr.n", HUGE, "metrics.psnr.n = 1"),
        ("metrics.psnr.definition", GONE, "metrics.psnr.definition is missing"),
        ("metrics.psnr.definition", SURROGATE, "invalid JSON"),
        ("metrics", {HOSTILE: {}}, SHOWN),
        ("protocol", "x", "protocol = 'x'"),
        ("protocol.samples", [], "protocol.samples = []"),
        ("protocol.reference", 3, "protocol.reference = 3"),
        ("protocol.reference", None, "nothing is said of the reference of psnr"),
        ("curve", {}, "curve = {}"),
        ("tokens", {}, "tokens = {}"),
    ],
)
def test_a_result_is_checked(tmp_path, fails, keys, value, said):
    write_result(tmp_path / "a.json", 20.0)
    change(tmp_path / "a.json", keys, value)
    line = fails(1, "evaluate", "--compare", tmp_path / "a.json", tmp_path / "a.json")
    assert "a.json is wrong: " in line and said in line.replace("\\\\", "\\") and not UNPRINTABLE.search(line)


# --- what is printed ----------------------------------------------------------------------------------------------


def printed(result) -> str:
    """All of it, which must be harmless, whatever the exit code."""
    text = result.out + result.err
    assert not UNPRINTABLE.search(text.replace("\n", "")), text
    return text


def test_names_of_classes_are_printed_harmlessly(har, restok):
    change(har / "config.json", "class_names.0", f"cat {HOSTILE}")
    change(har / "config.json", "class_names.1", f"cat\n{HOSTILE}")
    options = ("--model", har, "--count", 1, "--codes", "-o", har.parent / "codes.jsonl")
    assert SHOWN in printed(restok("generate", *options, "--class", "cat"))
    assert SHOWN in printed(restok("generate", *options, "--class", "cat 0;owned"))


def test_names_of_files_and_models_are_printed_harmlessly(har, tiny_models, tmp_path, restok):
    model = har.rename(tmp_path / HOSTILE)
    assert SHOWN in printed(restok("models", "show", model))
    assert SHOWN in printed(restok("models", "show", model / "nothing"))
    assert SHOWN in printed(restok("doctor", model))
    pictures = tmp_path / f"images{HOSTILE}"
    pictures.mkdir()
    (pictures / f"{HOSTILE}\n.png").write_bytes(b"broken")
    (pictures / f"{HOSTILE}.txt").write_bytes(b"")
    tokenizer = tiny_models / "tokenizer"
    assert SHOWN in printed(restok("encode", pictures, "--model", tokenizer, "-o", tmp_path / "codes.jsonl"))
    assert SHOWN in printed(restok("prepare", "folder", pictures, tmp_path / "out", "--jobs", 1))
    assert SHOWN in printed(restok("evaluate", pictures, "--reference", pictures, "--metric", "mse"))


def test_values_of_configs_are_printed_harmlessly(tmp_path, restok):
    config = tmp_path / f"{HOSTILE}.yaml"
    config.write_text(json.dumps({"schedule": {"max_steps": HOSTILE}}))
    printed(restok("config", "show", config, "--kind", "tokenizer"))
    printed(restok("config", "diff", config, "tiny", "--kind", "tokenizer"))
    printed(restok("config", "validate", config, "--kind", "tokenizer"))
    config.write_text(json.dumps({HOSTILE: {HOSTILE: 1}}))
    assert SHOWN in printed(restok("config", "validate", config, "--kind", "tokenizer"))


def test_keys_and_results_are_printed_harmlessly(tmp_path, tiny_models, restok):
    line = {"key": HOSTILE, "codes": [1] * 32, "codebook_size": 64}
    (tmp_path / "codes.jsonl").write_text(f"{json.dumps(line)}\n" * 2)
    decode = ("decode", tmp_path / "codes.jsonl", "--model", tiny_models / "tokenizer", "-o", tmp_path / "out")
    assert SHOWN in printed(restok(*decode))
    write_result(tmp_path / "a.json", 20.0)
    write_result(tmp_path / "b.json", 20.0, size=f"{HOSTILE}\n")
    for options in ((), ("--json",)):
        assert "owned" in printed(restok("evaluate", "--compare", tmp_path / "a.json", tmp_path / "b.json", *options))


def test_a_log_keeps_no_line_that_a_name_made_up(tmp_path):
    from restok_cli.console import kept_lines, note

    with kept_lines(tmp_path / "log.txt"):
        note("a\n2026-11-22 08:00:00 step 9: loss 0")
    assert len((tmp_path / "log.txt").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"schedule: {{max_steps: {HUGE}}}", "schedule.max_steps = 1"),
        ('alignment: {teacher: "\\ud800"}', "alignment.teacher = '\\ud800': input should be text"),
        ("model: {encoder_layers: 1000000000}", "model.encoder_layers = 1000000000"),
        ("model: {cnn_channels: 1048576}", "cnn_multipliers = 2 makes 2097152 channels"),
    ],
)
def test_a_config_holds_nothing_that_only_python_can(tmp_path, fails, text, said):
    (tmp_path / "run.yaml").write_text(f"preset: tiny\n{text}\n")
    line = fails(2, "config", "validate", tmp_path / "run.yaml", "--kind", "tokenizer")
    assert said in line.replace("\\\\", "\\")


def test_keys_in_lines_of_codes_are_printed_harmlessly(tmp_path, tiny_models, restok):
    write_pictures(tmp_path / "pictures", [f"{HOSTILE}é.png"], 24, 24)
    text = printed(restok("encode", tmp_path / "pictures", "--model", tiny_models / "tokenizer", "-o", "-"))
    assert json.loads(text.splitlines()[0])["key"] == f"{HOSTILE}é"
