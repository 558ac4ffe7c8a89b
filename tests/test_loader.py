import json
import multiprocessing
import pickle
import re
import subprocess
import sys
import tempfile
from io import BytesIO
from itertools import islice, zip_longest

import pytest
import torch
from pictures import dealt, noise

from restok_cli.data.image_files import center_crop
from restok_cli.data.images import to_tensor
from restok_cli.data.loading.batching import Batch, Loaded, pack
from restok_cli.data.loading.loader import batches, evaluation_batches
from restok_cli.data.loading.transforms import Transform
from restok_cli.data.shards.dataset import open_dataset
from restok_cli.data.shards.layout import Sample
from restok_cli.data.shards.writer import write_dataset
from restok_cli.errors import RestokError, UsageError

PICTURES = 10


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return make_split(tmp_path_factory.mktemp("set"), PICTURES)


def make_split(folder, count, broken=(), kind="PNG", scale=1):
    folder.mkdir(exist_ok=True)
    samples = []
    for i in range(count):
        file = BytesIO()
        noise(i, scale * (24 + i), scale * 20).save(file, kind)
        data = b"broken" if i in broken else file.getvalue()
        samples.append(Sample(f"key{i}", "png", data, (20, 24 + i), i, {}))
    write_dataset(
        folder,
        {"train": samples},
        name="test",
        class_names=[str(i) for i in range(count)],
        provenance={},
        samples_per_shard=4,
    )
    return open_dataset(folder).split("train")


def load(split, count, *, num_workers=0, **options):
    options = {
        "image_size": (16, 16),
        "batch_size": 4,
        "seed": 7,
        "random_zoom": (1, 1.25),
        "random_crop_area": (0.5, 1.0),
        "random_flip": True,
    } | options
    return list(islice(batches(split, num_workers=num_workers, **dealt(options)), count))


def assert_equal(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.class_ids, b.class_ids)


def test_batches_are_uint8_with_their_class_ids(split):
    (batch,) = load(split, 1, image_size=(12, 18))
    assert batch.images.shape == (4, 3, 12, 18) and batch.images.dtype == torch.uint8
    assert batch.class_ids.shape == (4,) and batch.class_ids.dtype == torch.int64


def test_same_seed_gives_the_same_batches(split):
    assert_equal(load(split, 6), load(split, 6))
    assert not torch.equal(load(split, 1)[0].images, load(split, 1, seed=8)[0].images)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on fewer cores
@pytest.mark.parametrize("num_workers", [2, 4])  # of three shards
def test_workers_give_the_same_batches(split, num_workers):
    assert_equal(load(split, 8, num_workers=num_workers), load(split, 8))


@pytest.mark.parametrize("crop", ["random-resized", "random", "centre"])
def test_jpeg_files_are_cropped_alike_by_one_thread_or_several_and_by_workers(tmp_path, crop):
    split = make_split(tmp_path, 6, kind="JPEG", scale=12)
    options = {"image_size": (128, 128), "crop": crop}
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        found = load(split, 3, **options)
    finally:
        torch.set_num_threads(threads)
    assert_equal(found, load(split, 3, **options))
    assert_equal(found, load(split, 3, num_workers=2, **options))


@pytest.mark.parametrize("first_step", [1, 2, 3, 5, 11])
def test_starting_late_equals_skipping_batches(split, first_step):
    assert_equal(load(split, 3, first_step=first_step), load(split, first_step + 3)[first_step:])


def test_a_batch_may_be_larger_than_the_set(split):
    (batch,) = load(split, 1, batch_size=25)
    assert batch.class_ids.bincount().tolist() == [2 + int(i in batch.class_ids[20:].tolist()) for i in range(PICTURES)]


def test_without_randomness_training_pictures_are_the_centre_crops(split):
    found = load(split, 3, crop="centre", random_flip=False)
    assert len(found) == 3
    for batch in found:
        for image, class_id in zip(batch.images, batch.class_ids.tolist(), strict=True):
            assert torch.equal(image, to_tensor(center_crop(split.image(class_id), (16, 16))))


def test_flips_mirror_about_half_of_the_pictures_anew_each_epoch(split):
    flipped = []
    for batch in load(split, 40, batch_size=PICTURES, crop="centre"):
        for image, class_id in zip(batch.images, batch.class_ids.tolist(), strict=True):
            straight = to_tensor(center_crop(split.image(class_id), (16, 16)))
            mirrored = torch.equal(image, straight.flip(2))
            assert mirrored or torch.equal(image, straight)
            flipped.append((class_id, mirrored))
    assert 150 < sum(mirrored for _, mirrored in flipped) < 250
    assert all((i, False) in flipped and (i, True) in flipped for i in range(PICTURES))


def test_global_random_state_is_left_alone(split):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    load(split, 2)
    assert torch.equal(torch.get_rng_state(), before)


def joined(parts):
    return [torch.cat(column) for column in zip(*parts, strict=True)]


@pytest.mark.parametrize(("micro_batch_size", "world_size"), [(None, 1), (6, 2), (3, 2), (2, 3), (12, 1)])
def test_processes_share_the_batches_of_one(split, micro_batch_size, world_size):
    whole = load(split, 5, batch_size=12)
    each = [
        load(
            split,
            5 * 12 // (micro_batch_size or 12) // world_size,
            batch_size=12,
            micro_batch_size=micro_batch_size,
            rank=rank,
            world_size=world_size,
            num_workers=rank % 2,
        )
        for rank in range(world_size)
    ]
    in_turn = [batch for batches_at_once in zip(*each, strict=True) for batch in batches_at_once]
    per_step = len(in_turn) // 5
    for step, batch in enumerate(whole):
        images, class_ids = joined(in_turn[step * per_step : (step + 1) * per_step])
        assert torch.equal(images, batch.images) and torch.equal(class_ids, batch.class_ids)


def test_a_batch_that_does_not_divide_is_refused_at_once(split):
    with pytest.raises(UsageError, match="a batch of 4 cannot be cut into micro-batches of 3 for 1 process;"):
        load(split, 0, micro_batch_size=3)
    with pytest.raises(UsageError, match=r"a batch of 4 .* of 1 for 3 processes; make the batch size a multiple of 3"):
        load(split, 0, world_size=3)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_next_sample_stands_in_for_a_broken_one_which_is_named_once(tmp_path, capsys, num_workers):
    split, intact = make_split(tmp_path / "a", 6, broken={3, 5}), make_split(tmp_path / "b", 6)
    options = {"broken_limit": 0.34, "crop": "centre", "random_flip": False}
    found, expected = load(split, 6, num_workers=num_workers, **options), load(intact, 6, **options)
    for batch, whole in zip(found, expected, strict=True):
        stands_in = {3: 4, 5: 0}
        assert batch.class_ids.tolist() == [stands_in.get(i, i) for i in whole.class_ids.tolist()]
        for image, class_id in zip(batch.images, batch.class_ids.tolist(), strict=True):
            assert torch.equal(image, to_tensor(center_crop(intact.image(class_id), (16, 16))))
    lines = capsys.readouterr().err.splitlines()
    assert sorted(line.split(": ")[2] for line in lines if line.startswith("left out: ")) == ["key3.png", "key5.png"]
    assert len(lines) == 2


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("broken", [{1, 3}, set(range(6))])
def test_too_many_broken_samples_stop_training_with_their_names_in_one_line(tmp_path, num_workers, broken):
    split = make_split(tmp_path, 6, broken=broken)
    message = (
        r"^2 samples cannot be decoded \(key\d, key\d\), more than the 1 that may be broken: `restok prepare verify"
    )
    with pytest.raises(RestokError, match=message + rf" {tmp_path}` [^\n]*$"):
        load(split, 6, num_workers=num_workers)


@pytest.mark.parametrize("count", [1, 3])
def test_where_all_samples_are_broken_the_search_for_one_ends(tmp_path, count):
    split = make_split(tmp_path, count, broken=set(range(count)))
    with pytest.raises(RestokError, match=f"^{count} samples cannot be decoded .* more than the {count - 1} that may"):
        load(split, 1, broken_limit=1)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_shard_that_is_lost_stops_training_with_its_name(tmp_path, num_workers):
    split = make_split(tmp_path, 6)
    (tmp_path / "train-000000.tar").unlink()
    with pytest.raises(RestokError, match=r"^[^\n]*train-000000\.tar cannot be read \(No such file[^\n]*$"):
        load(split, 6, num_workers=num_workers)


def test_ctrl_c_and_hang_ups_leave_the_loading_to_go_on(split):
    options = {"image_size": (8, 8), "batch_size": 2, "seed": 0, "crop": "random-resized", "random_flip": False}
    options |= {"random_zoom": (1, 1.25), "random_crop_area": (1, 1)}
    loaded = batches(split, num_workers=2, **dealt(options))
    found = list(islice(loaded, 4))  # two of each worker, so that both have begun
    workers = multiprocessing.active_children()
    assert len(workers) >= 2
    for worker in workers:
        for name in ("INT", "HUP"):
            subprocess.run(("kill", f"-{name}", str(worker.pid)), check=True)
    found += islice(loaded, 12)
    assert_equal(found, load(split, 16, **options))


def test_workers_need_no_socket_in_a_short_folder(split, tmp_path, monkeypatch):
    """SLURM's and others' TMPDIR is too long for one, of at most 108 characters."""
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    assert_equal(load(split, 3, num_workers=1), load(split, 3))


def test_an_error_of_a_worker_that_nobody_thought_of_ends_the_loading(split, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("of a decoder")

    monkeypatch.setattr(Transform, "__call__", fail)
    with pytest.raises(ZeroDivisionError, match="of a decoder"):
        load(split, 1, num_workers=1)


def test_what_goes_through_a_worker_comes_back_as_it_was():
    item = Loaded(Batch(torch.arange(24, dtype=torch.uint8).view(2, 3, 2, 2), torch.tensor([4, -1])), {"key": "why"})
    back = pickle.loads(pack(item))
    assert torch.equal(back.batch.images, item.batch.images) and torch.equal(back.batch.class_ids, item.batch.class_ids)
    assert back.broken == item.broken
    back.batch.images.add_(1)  # as training may


KILL_A_WORKER = """
import multiprocessing, sys, time
from restok_cli import cli
from restok_cli.data.loading.batching import Deal
from restok_cli.data.loading.loader import batches
from restok_cli.data.shards.dataset import open_dataset

def train(**_):
    split = open_dataset(sys.argv[1]).split("train")
    options = {"crop": "centre", "random_flip": False, "random_zoom": (1, 1.25), "random_crop_area": (1, 1)}
    for _ in batches(split, (8, 8), Deal(2, seed=0), num_workers=2, **options):
        multiprocessing.active_children()[0].kill()
        time.sleep(0.1)

cli.app = train
sys.exit(cli.run())
"""


def test_a_killed_worker_ends_the_command_with_a_line_that_says_so(split):
    command = (sys.executable, "-c", KILL_A_WORKER, str(split.shards[0].path.parent))
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    line = result.stderr.splitlines()[0]  # torch may complain on its way out, where it cannot be kept from it
    assert re.fullmatch(r"restok: a process that loads images was killed, .* try fewer workers \(.*\)", line)


def test_evaluation_batches_are_every_centre_crop_in_order(split):
    found = list(evaluation_batches(split, image_size=(16, 12), batch_size=4))
    assert [len(batch.class_ids) for batch in found] == [4, 4, 2]
    assert torch.cat([batch.class_ids for batch in found]).tolist() == list(range(PICTURES))
    naive = torch.stack([to_tensor(center_crop(split.image(i), (16, 12))) for i in range(PICTURES)])
    assert torch.equal(torch.cat([batch.images for batch in found]), naive)
    shares = [list(evaluation_batches(split, image_size=(16, 12), batch_size=4, rank=r, world_size=2)) for r in (0, 1)]
    assert_equal(shares[0], found[::2])
    assert_equal(shares[1], found[1::2])


@pytest.mark.parametrize("limit, sizes", [(5, ([4], [1])), (4, ([4], [])), (10**9, ([4, 2], [4]))])
def test_evaluation_batches_end_with_the_first_samples_that_are_wanted(split, limit, sizes):
    whole = torch.cat([batch.images for batch in evaluation_batches(split, image_size=(8, 8), batch_size=4)])
    deals = [{"rank": rank, "world_size": 2, "limit": limit} for rank in (0, 1)]
    shares = [[b.images for b in evaluation_batches(split, image_size=(8, 8), batch_size=4, **deal)] for deal in deals]
    assert tuple([len(images) for images in share] for share in shares) == sizes
    in_turn = [images for turn in zip_longest(*shares) for images in turn if images is not None]
    assert torch.equal(torch.cat(in_turn), whole[:limit])


LOAD_AN_EPOCH = """
import re, sys
from pathlib import Path
import torchvision
from restok_cli.data.loading.batching import Deal, micro_batches
from restok_cli.data.loading.loader import batches
from restok_cli.data.shards.dataset import open_dataset

def peak():
    return 1024 * int(re.search("VmHWM: *([0-9]+)", Path("/proc/self/status").read_text().replace(chr(9), " "))[1])

before = peak()
split = open_dataset(sys.argv[1]).split("train")
crop = {"random_zoom": (1, 1.25), "random_crop_area": (0.8, 1.0), "random_flip": True}
loaded = batches(split, (64, 64), Deal(64, seed=0, first_step=len(split) // 64 - 1), **crop)
shown = sum(next(loaded).class_ids.sum().item() for _ in range(3))  # the last batch of an epoch, and two of the next
looked_up = sum(split.class_id(sample) for _, sample in next(micro_batches(len(split), Deal(len(split), 0))))
print(len(split), looked_up, peak() - before)
"""


def test_a_loader_of_imagenet_takes_less_than_200_mb(tmp_path):
    shards, samples_per_shard = 320, 4000
    file = BytesIO()
    noise(0).save(file, "PNG")
    samples = [Sample(f"key{i}", "png", file.getvalue(), (16, 20), 0, {}) for i in range(samples_per_shard)]
    write_dataset(tmp_path, {"train": samples}, name="test", class_names=["0"], provenance={})
    manifest = json.loads((tmp_path / "dataset.json").read_text())
    (shard,) = manifest["splits"]["train"]["shards"]  # that stands in for all
    for i in range(1, shards):
        for suffix in ("npy", "tar"):
            (tmp_path / f"train-{i:06d}.{suffix}").hardlink_to(tmp_path / f"train-000000.{suffix}")
    infos = [shard | {"file": f"train-{i:06d}.tar", "num_samples": samples_per_shard} for i in range(shards)]
    manifest["splits"]["train"] = {"num_samples": shards * samples_per_shard, "shards": infos}
    (tmp_path / "dataset.json").write_text(json.dumps(manifest))
    command = (sys.executable, "-c", LOAD_AN_EPOCH, str(tmp_path))
    num_samples, class_ids, num_bytes = map(int, subprocess.check_output(command, text=True).split())
    assert (num_samples, class_ids) == (1_280_000, 0)
    assert num_bytes < 200 * 2**20
