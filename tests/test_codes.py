import json
import re
from itertools import islice

import numpy as np
import pytest
import torch
from damage import damages

from restok_cli.data.loading.batching import Deal, micro_batches
from restok_cli.data.loading.code_batches import code_batches, evaluation_code_batches
from restok_cli.data.shards.code_cache import open_codes
from restok_cli.data.shards.code_layout import CodePlan, is_codes
from restok_cli.data.shards.code_writer import finish_codes, shard_path, start_codes, write_code_shard
from restok_cli.data.shards.verify import verify_codes
from restok_cli.errors import RestokError, UsageError

NUM_VIEWS, LENGTH, SIZES = 10, 6, {"train": 11, "validation": 3}
RECORD = NUM_VIEWS * LENGTH * 2 + 4 + len("train_4") + 4  # bytes of a sample in train-000001.npy


def make_plan(**changes):
    fields = {
        "data_name": "test",
        "data_fingerprint": "data",
        "tokenizer_fingerprint": "tokenizer",
        "dtype": "float32",
        "image_size": (8, 8),
        "views": {"train": "ten-crop", "validation": "centre"},
        "codebook_size": 50_000,
        "num_codes": LENGTH,
        "class_names": ["a", "b", "c"],
        "samples_per_shard": 4,
    }
    return CodePlan(**fields | changes)


def make_cache(folder, codes, plan=None, **edits):
    """Write codes {split: (n, views, L)}; sample i is of class i % 3 and has the key <split>_<i>."""
    plan = plan or make_plan()
    start_codes(folder, plan, overwrite=False)
    num_shards = {split: plan.num_shards(len(array)) for split, array in codes.items()}
    for split, array in codes.items():
        for number in range(num_shards[split]):
            samples = plan.samples_of(number, len(array))
            class_ids = [edits.get("class_id", i % 3) for i in samples]
            keys = [edits.get("key", f"{split}_{i}") for i in samples]
            path = shard_path(folder, split, number)
            write_code_shard(path, plan, array[samples.start : samples.stop], class_ids, keys)
    return finish_codes(folder, plan, num_shards)


@pytest.fixture
def codes():
    rng = np.random.default_rng(0)
    return {
        split: rng.integers(0, 50_000, (size, NUM_VIEWS if split == "train" else 1, LENGTH))
        for split, size in SIZES.items()
    }


@pytest.fixture
def folder(tmp_path, codes):
    make_cache(tmp_path / "codes", codes)
    return tmp_path / "codes"


def test_every_code_is_read_back_with_class_and_key(folder, codes):
    cache = open_codes(folder)
    assert (cache.codebook_size, cache.num_codes, cache.num_classes) == (50_000, LENGTH, 3)
    assert (cache.tokenizer_fingerprint, cache.class_names) == ("tokenizer", ["a", "b", "c"])
    assert cache.splits == ["train", "validation"]
    for name, array in codes.items():
        split = cache.split(name)
        assert (len(split), split.num_views) == array.shape[:2]
        for i in range(len(split)):
            assert (split.key(i), split.class_id(i)) == (f"{name}_{i}", i % 3)
            assert [split.codes(i, view).tolist() for view in range(split.num_views)] == array[i].tolist()
    assert len(cache.held_out) == SIZES["validation"]


def test_shards_are_arrays_that_numpy_reads_in_as_few_bytes_as_codes_need(tmp_path, codes):
    for codebook_size, dtype in ((2**16, np.uint16), (2**16 + 1, np.int32)):
        folder = tmp_path / str(codebook_size)
        make_cache(folder, codes, make_plan(codebook_size=codebook_size))
        records = np.load(folder / "train-000001.npy")
        assert records["codes"].dtype == dtype
        assert np.array_equal(records["codes"], codes["train"][4:8])
        assert records["key"].tolist() == [b"train_4", b"train_5", b"train_6", b"train_7"]


def test_the_fingerprint_follows_codes_tokenizer_and_classes(tmp_path, codes):
    base = make_cache(tmp_path / "a", codes).fingerprint
    assert make_cache(tmp_path / "b", codes, make_plan(data_name="other")).fingerprint == base
    changed = {split: array.copy() for split, array in codes.items()}
    changed["train"][3, 4, 5] += 1
    others = {
        make_cache(tmp_path / "c", changed).fingerprint,
        make_cache(tmp_path / "d", codes, make_plan(tokenizer_fingerprint="other")).fingerprint,
        make_cache(tmp_path / "e", codes, make_plan(class_names=["a", "b", "d"])).fingerprint,
    }
    assert len(others) == 3 and base not in others


def load(split, steps, **options):
    options = {"batch_size": 4, "seed": 3} | options
    return list(islice(code_batches(split, micro_batches(len(split), Deal(**options)), options["seed"]), steps))


def shown(split, batches):
    """(sample, view) of all codes, which are all different."""
    where = {split.codes(i, view).tobytes(): (i, view) for i in range(len(split)) for view in range(split.num_views)}
    assert len(where) == len(split) * split.num_views
    return [where[row.numpy().astype(np.uint16).tobytes()] for batch in batches for row in batch.codes]


def test_an_epoch_shows_one_view_of_every_sample_with_its_class(folder):
    split = open_codes(folder).split("train")
    batches = load(split, 200, batch_size=11)
    assert batches[0].codes.shape == (11, LENGTH) and batches[0].codes.dtype == torch.int64
    pairs = shown(split, batches)
    classes = torch.cat([batch.class_ids for batch in batches]).tolist()
    assert classes == [sample % 3 for sample, _ in pairs]
    for epoch in range(200):
        assert sorted(sample for sample, _ in pairs[epoch * 11 : epoch * 11 + 11]) == list(range(11))
    assert set(pairs) == {(i, view) for i in range(11) for view in range(NUM_VIEWS)}
    counts = np.bincount([view for _, view in pairs])
    assert counts.min() > 150 and counts.max() < 300  # of 220 each, on average


def test_batches_depend_on_seed_and_step_alone(folder):
    split = open_codes(folder).split("train")
    once = load(split, 9)
    assert shown(split, load(split, 3, first_step=6)) == shown(split, once[6:])
    assert shown(split, load(split, 9, seed=4)) != shown(split, once)


@pytest.mark.parametrize(("micro_batch_size", "world_size"), [(None, 2), (2, 1), (1, 2)])
def test_processes_share_the_batches_of_one(folder, micro_batch_size, world_size):
    split = open_codes(folder).split("train")
    size = micro_batch_size or 4 // world_size
    options = {"micro_batch_size": micro_batch_size, "world_size": world_size}
    each = [load(split, 5 * 4 // size // world_size, rank=rank, **options) for rank in range(world_size)]
    in_turn = [batch for at_once in zip(*each, strict=True) for batch in at_once]
    assert shown(split, in_turn) == shown(split, load(split, 5))


def test_a_batch_that_does_not_divide_is_refused_at_once():
    with pytest.raises(UsageError, match="a batch of 4 cannot be cut into micro-batches of 3"):
        micro_batches(100, Deal(4, 0, micro_batch_size=3))


def test_evaluation_shows_view_0_of_every_sample_in_order(folder):
    split = open_codes(folder).split("train")
    batches = list(evaluation_code_batches(split, 4))
    assert [len(batch.codes) for batch in batches] == [4, 4, 3]
    assert shown(split, batches) == [(i, 0) for i in range(11)]
    shares = [list(evaluation_code_batches(split, 4, rank=rank, world_size=2)) for rank in range(2)]
    assert shown(split, shares[0]) == shown(split, batches[::2])
    assert shown(split, shares[1]) == shown(split, batches[1::2])
    for limit in (3, 4, 9, 10**9):
        assert shown(split, evaluation_code_batches(split, 4, limit=limit)) == shown(split, batches)[:limit]


def test_what_is_no_code_cache_or_unfinished_is_told_with_the_command(folder, tmp_path):
    with pytest.raises(UsageError, match=rf"{tmp_path} holds no codes; `restok prepare codes DATA {tmp_path} --tok"):
        open_codes(tmp_path)
    assert is_codes(folder) and not is_codes(tmp_path)
    start_codes(tmp_path / "begun", make_plan(), overwrite=False)
    assert is_codes(tmp_path / "begun")
    with pytest.raises(UsageError, match=r"begun is unfinished; the same `restok prepare codes` again"):
        open_codes(tmp_path / "begun")
    with pytest.raises(UsageError, match=r"no split valid \(did you mean validation\?\); it has train and"):
        open_codes(folder).split("valid")
    with pytest.raises(IndexError):
        open_codes(folder).split("train").codes(11, 0)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"data_name": "x"}', '{"format_version": 2}'])
def test_a_damaged_or_newer_manifest_is_refused(folder, text):
    (folder / "codes.json").write_text(text)
    with pytest.raises(RestokError, match=r"codes\.json (is|has format)"):
        open_codes(folder)


def test_missing_cut_and_foreign_shards_are_named(folder):
    shard = folder / "train-000001.npy"
    whole = shard.read_bytes()
    shard.unlink()
    with pytest.raises(RestokError, match=r"train-000001\.npy is missing"):
        open_codes(folder)
    shard.write_bytes(whole[:-2])
    with pytest.raises(RestokError, match=r"train-000001\.npy has \d+ bytes instead of \d+"):
        open_codes(folder)
    for changed in (bytes(len(whole)), whole.replace(b"('codes', '<u2'", b"('codes', '<i2'")):
        shard.write_bytes(changed)
        with pytest.raises(RestokError, match=r"train-000001\.npy is not as it was made: copy the codes again, or run"):
            open_codes(folder)


@pytest.mark.parametrize("name", ["codes.json", "train-000000.npy", "validation-000000.npy"])
def test_damage_is_refused_by_name_when_codes_are_opened(folder, name):
    file = folder / name
    whole = file.read_bytes()
    for damaged in damages(whole, number=40):
        file.write_bytes(damaged)
        with pytest.raises(RestokError, match=re.escape(str(file))):
            open_codes(folder)
    file.write_bytes(whole)
    open_codes(folder)


def test_swapped_shards_are_refused(folder):
    one, other = (folder / f"train-00000{i}.npy" for i in range(2))
    other.rename(folder / "kept")
    one.rename(other)
    (folder / "kept").rename(one)
    with pytest.raises(RestokError, match=r"train-00000\d\.npy is not as it was made"):
        open_codes(folder)


def test_codes_of_an_older_version_whose_manifest_has_no_digest_are_read(folder):
    manifest = json.loads((folder / "codes.json").read_text())
    del manifest["fields_crc32"]
    (folder / "codes.json").write_text(json.dumps(manifest))
    assert open_codes(folder).fingerprint == manifest["fingerprint"]


@pytest.mark.parametrize("edits", [{"class_id": 3}, {"class_id": -1}, {"code": 50_000}])
def test_codes_and_classes_that_do_not_exist_are_one_error(tmp_path, codes, edits):
    codes["train"][1, 2, 3] = edits.pop("code", 0)
    make_cache(tmp_path / "codes", codes, **edits)
    split = open_codes(tmp_path / "codes").split("train")
    with pytest.raises(RestokError, match=r"000000\.npy holds codes or classes outside the 50000 and 3 that"):
        next(evaluation_code_batches(split, 4))


def problems(folder):
    return [tuple(problem) for problem in verify_codes(folder).problems]


def test_verifying_finds_nothing_in_what_was_just_made(folder):
    assert verify_codes(folder) == (4, sum(SIZES.values()), [], [])


@pytest.mark.parametrize("offset", [-1, -10, -30, 200, 300])
def test_verifying_names_the_sample_of_every_changed_bit(folder, offset):
    shard = folder / "train-000001.npy"
    whole = shard.read_bytes()
    contents = bytearray(whole)
    contents[offset] ^= 1
    shard.write_bytes(contents)
    sample = (offset % len(whole) - (len(whole) - 4 * RECORD)) // RECORD
    keys = {key for _, key, what in problems(folder) if what == "was changed"}
    assert keys == {np.load(shard)["key"][sample].decode()}


def test_verifying_finds_missing_cut_and_foreign_files_and_changed_headers(folder):
    shard = folder / "train-000001.npy"
    whole = shard.read_bytes()
    (folder / "notes.txt").write_text("mine")
    (folder / ".DS_Store").touch()
    assert problems(folder) == [("notes.txt", None, "codes.json does not speak of it")]
    (folder / "notes.txt").unlink()
    shard.write_bytes(whole[:-1])
    assert problems(folder) == [("train-000001.npy", None, "is cut short, or its header was changed")]
    shard.write_bytes(whole[:120] + whole[120:].replace(b" ", b"\n", 1))
    assert problems(folder) == [("train-000001.npy", None, "was changed outside its samples")]
    shard.unlink()
    assert problems(folder) == [("train-000001.npy", None, "is missing")]


def test_verifying_finds_a_manifest_that_was_edited(folder):
    manifest = json.loads((folder / "codes.json").read_text())
    changed = manifest | {"tokenizer_fingerprint": "another"}
    (folder / "codes.json").write_text(json.dumps(changed))
    with pytest.raises(RestokError, match=r"codes\.json is not as it was written"):
        verify_codes(folder)
    (folder / "codes.json").write_text(json.dumps({k: v for k, v in changed.items() if k != "fields_crc32"}))
    assert [(file, what[:15]) for file, _, what in problems(folder)] == [("codes.json", "the fingerprint")]


def test_verifying_finds_codes_classes_and_keys_that_cannot_be(tmp_path, codes):
    codes["train"][5, 2, 1] = 60_000
    make_cache(tmp_path / "a", codes)
    assert problems(tmp_path / "a") == [("train-000001.npy", "train_5", "has a code or a class that does not exist")]
    codes["train"][5, 2, 1] = 0
    make_cache(tmp_path / "b", codes, class_id=3)
    assert len(problems(tmp_path / "b")) == sum(SIZES.values())
    make_cache(tmp_path / "c", codes, key="same")
    found = problems(tmp_path / "c")
    assert len(found) == sum(SIZES.values()) - 2  # of those in each split, all but one
    assert found[0] == ("train-000000.npy", "same", "the same key is in train-000000.npy already")


def test_what_is_begun_goes_on_with_the_same_plan_only(tmp_path):
    out = tmp_path / "codes"
    start_codes(out, make_plan(), overwrite=False)
    start_codes(out, make_plan(views={"train": "flip"}), overwrite=False)  # nothing is lost yet
    start_codes(out, make_plan(), overwrite=False)
    shard = shard_path(out, "train", 0)
    write_code_shard(shard, make_plan(), np.zeros((1, NUM_VIEWS, LENGTH), int), [0], ["k"])
    (out / ".train-000001.npy.77.tmp").write_bytes(b"cut")
    before = shard.read_bytes()
    start_codes(out, make_plan(), overwrite=False)
    assert shard.read_bytes() == before
    assert sorted(file.name for file in out.iterdir()) == ["train-000000.npy", "unfinished.json"]
    others = {"tokenizer_fingerprint": "other"}
    # which may round differently
    others |= {"dtype": "bf16", "device": "cuda", "batch_size": 64, "deterministic": True}
    for name, value in others.items():
        change = rf"another {name.replace('_', ' ')} \({getattr(make_plan(), name)!r}, now {value!r}\); finish those"
        with pytest.raises(UsageError, match=f"holds unfinished codes with {change}"):
            start_codes(out, make_plan(**{name: value}), overwrite=False)
    start_codes(out, make_plan(tokenizer_fingerprint="other"), overwrite=True)
    assert [file.name for file in out.iterdir()] == ["unfinished.json"]


def test_finished_codes_are_replaced_only_when_asked_and_other_files_never(folder):
    with pytest.raises(UsageError, match="already holds files"):
        start_codes(folder, make_plan(), overwrite=False)
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"holds thesis\.tex, which this command did not make"):
        start_codes(folder, make_plan(), overwrite=True)
    assert len(problems(folder)) == 1
    (folder / "thesis.tex").unlink()
    start_codes(folder, make_plan(), overwrite=True)
    assert not (folder / "codes.json").exists()


def test_codes_without_classes_have_none(tmp_path, codes):
    make_cache(tmp_path / "a", codes, make_plan(class_names=[]), class_id=-1)
    cache = open_codes(tmp_path / "a")
    assert cache.num_classes == 0 and cache.split("train").class_id(0) == -1
    assert problems(tmp_path / "a") == []


def test_a_split_of_broken_pictures_alone_makes_no_cache(tmp_path, codes):
    plan = make_plan()
    start_codes(tmp_path / "a", plan, overwrite=False)
    write_code_shard(shard_path(tmp_path / "a", "train", 0), plan, np.zeros((0, NUM_VIEWS, LENGTH), int), [], [])
    with pytest.raises(RestokError, match="none of the images of split train could be decoded"):
        finish_codes(tmp_path / "a", plan, {"train": 1})
    assert not json.loads((tmp_path / "a" / "unfinished.json").read_text()).keys() & {"splits"}
