"""`restok plan` and what it counts, beside closed forms, real steps and what torch counts itself."""

import json
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from restok_cli.cli import run
from restok_cli.commands.plan import parse_memory
from restok_cli.errors import RestokError, UsageError
from restok_cli.metrics.networks.lpips import Lpips
from restok_cli.model.pixel_codec import PixelDecoder
from restok_cli.planning import plan, preflight
from restok_cli.planning.cards import DEVICES, GIB, LAUNCH, ON_CPU, Rest, times_of
from restok_cli.planning.configs import num_rounds, of_one_device, planned_config
from restok_cli.planning.counting import COPIES, GRADIENTS, Counter, Kind, Work
from restok_cli.planning.cuda_rules import cuda_rules
from restok_cli.planning.plan import plan_training
from restok_cli.planning.several import Group
from restok_cli.planning.steps import count_step, counting, open_har_step, open_tokenizer_step
from restok_cli.training import tokenizer_loop

H100 = DEVICES["h100"]
EXACT = H100._replace(rest=Rest(0, 0))  # all of whose memory is for what is counted
WHOLE = ["loss.perceptual_weight=1", "discriminator.weight=0.5", "discriminator.kind=patch", "schedule.batch_size=4"]


def report(capsys, *words: str) -> dict:
    assert run(["plan", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_arithmetic_is_that_of_closed_forms():
    """Forward and backward: the gradients of a product's factors are two more, those of attention five with its own."""
    with Counter() as counter:
        rows, image = torch.empty(7, 11, requires_grad=True), torch.empty(2, 3, 8, 8, requires_grad=True)
        q = torch.empty(2, 3, 5, 8, requires_grad=True)
        weight, kernel = (torch.empty(s, requires_grad=True) for s in ((13, 11), (4, 3, 3, 3)))
        F.linear(rows, weight).sum().backward()
        F.conv2d(image, kernel, stride=2, padding=1).sum().backward()
        with counter.inside("attention"):
            F.scaled_dot_product_attention(q, q, q).sum().backward()
    flops = {}
    for kind, work in counter.work.items():
        flops[kind.operation] = flops.get(kind.operation, 0) + work.flops
    attention = 2 * 3 * 5 * 5 * 8 * 2  # one product of all queries and keys
    assert flops == {
        "product": 3 * 2 * 7 * 11 * 13,
        "convolution": 3 * 2 * 2 * 4 * 4 * 3 * 4 * 9,
        "attention": 2 * attention + 5 * attention,
        "other": 0,
    }
    assert {kind.part for kind in counter.work if kind.operation == "attention"} == {"attention"}


def test_memory_is_what_lives_at_once():
    with counting(gpu=False) as counter:
        kept = torch.empty(1024)
        counter.name([kept], "weights")
        counter.forget()
        for _ in range(3):
            torch.empty(2048) + 1
        torch.empty(256)
    assert counter.peak == 4 * (1024 + 2 * 2048)
    assert counter.at_peak() == {"losses and the rest": 4 * 2 * 2048, "weights": 4 * 1024}


@pytest.mark.parametrize("kind", ["tokenizer", "har"])
def test_a_counted_step_is_the_real_one(kind):
    words = WHOLE if kind == "tokenizer" else [*WHOLE[-1:], "model.codebook_size=8192", "model.num_codes=128"]
    config = of_one_device(planned_config(kind, "tiny", None, words), 1)
    counted = count_step(config, gpu=False)
    make = open_tokenizer_step if kind == "tokenizer" else open_har_step
    *_, step = make(config, torch.device("cpu"), "fast")
    step()
    with Counter() as real:
        step()
    with FlopCounterMode(display=False) as torchs:
        step()
    products = sum(work.flops for kind, work in real.work.items() if kind.operation != "attention")
    assert counted.flops == real.flops
    of_torch = torchs.get_flop_counts()["Global"]  # on CPUs, not every torch counts attention
    assert products == sum(flops for operation, flops in of_torch.items() if "attention" not in str(operation))
    assert counted.peak - counted.base == pytest.approx(real.peak, rel=0.02)


@pytest.mark.slow
def test_the_counts_of_a_gpu_that_stand_in_the_docs(monkeypatch):
    """Of restok-l-128 in bf16, by CUDA's own dispatch on a stub of its runtime, before LPIPS and the pixel decoder
    computed in 16 bits, and when LPIPS kept a graph of the real images, too. GiB, in docs/plan.md.
    """

    def in_float32(forward):
        def inside(module, *tensors):
            with torch.autocast("cpu", enabled=False):
                return forward(module, *(tensor.float().requires_grad_() for tensor in tensors))

        return inside

    for module in (PixelDecoder, Lpips):
        monkeypatch.setattr(module, "forward", in_float32(module.forward))
    monkeypatch.setattr(tokenizer_loop, "take_dtype", lambda *_: None)  # nor were frozen weights kept in 16 bits
    words = ["schedule.batch_size=32", "schedule.micro_batch_size=32", "compute.memory=fast"]
    parts = count_step(planned_config("tokenizer", "restok-l-128", None, words), gpu=True).at_peak()
    by_stub = {"pixel_encoder": 14.99, "encoder": 22.72, "decoder": 33.01, "pixel_decoder": 23.37, "LPIPS": 6.67}
    by_stub |= {"weights": 2.47, "average": 2.47, "optimizer": 4.99, COPIES: 1.21, "discriminator": 0.91}
    assert {name: parts[name] / GIB for name in by_stub} == pytest.approx(by_stub, rel=0.05)
    fixed, grows = plan.split(parts)
    for images, gib in ((8, 37.9), (16, 63.4), (32, 114.4)):
        assert (fixed + grows * images / 32) / GIB == pytest.approx(gib, rel=0.01)


def test_autocast_goes_by_the_lists_of_cuda():
    x = torch.ones(2, 8, 4, 4, dtype=torch.bfloat16)
    wide, short = torch.float32, torch.bfloat16
    expected = {
        wide: (
            lambda: F.layer_norm(x, (4,)),
            lambda: F.group_norm(x, 2),
            lambda: x.sum(),
            lambda: x.softmax(1),
            lambda: F.cosine_similarity(x, x),
            lambda: torch.addcmul(x, x, x.float()),
            lambda: F.interpolate(x, scale_factor=2),
        ),
        short: (
            lambda: F.conv2d(x.float(), torch.ones(2, 8, 1, 1)),
            lambda: F.linear(x.float(), torch.ones(3, 4)),
            lambda: torch.addcmul(x, x, x),
            lambda: F.silu(x),
            lambda: torch.cat([x, x]),
        ),
    }
    with torch.autocast("cpu", torch.bfloat16):
        before = [make().dtype for makes in expected.values() for make in makes]
        with cuda_rules():
            for dtype, makes in expected.items():
                assert {make().dtype for make in makes} == {dtype}
        assert [make().dtype for makes in expected.values() for make in makes] == before


def test_more_images_have_their_peak_elsewhere():
    """Two moments: 3 fixed blocks and 1 of an image, or 1 and 2; so 4 of two images, 5, 7 … but 3.5 of one."""
    with counting(gpu=False) as counter:
        kept = torch.empty(1024)
        counter.name([kept], "weights")
        counter.forget()
        for fixed, grows in ((2, 1), (0, 2)):
            blocks = [torch.empty(1024) for _ in range(fixed + grows)]
            counter.name(blocks[:fixed], GRADIENTS)
            del blocks
    peaks = counter.peaks({"weights", GRADIENTS}, (0.5, 1, 4))
    assert [plan.split(parts) for parts in peaks] == [(3 * 4096, 4096), (4096, 2 * 4096)]
    for memory, images in ((13, 12), (3.5, 1)):
        assert plan.largest_that_fits(peaks, 2, EXACT._replace(memory=memory * 4096 / GIB)) == images


def test_a_step_is_bound_by_its_device_or_by_the_host():
    product = {Kind("encoder", "product", "bf16"): Work(0.74 * 989e12, 0, 10)}
    assert times_of(product, H100, tf32=False).total == pytest.approx(1)
    many = {Kind("encoder", "other", "bf16"): Work(0, 0, 5000)}
    assert times_of(many, H100, tf32=False).total == pytest.approx(5000 * LAUNCH)
    convolution = {Kind("encoder", "convolution", "float32"): Work(1e15, 0, 1)}
    assert times_of(convolution, H100, tf32=True).total < times_of(convolution, H100, tf32=False).total / 3


def test_what_is_usable_fills_a_card_with_what_is_beside_it():
    for device in (*DEVICES.values(), H100._replace(name="cpu", rest=ON_CPU)):
        assert device.rest.added(device.usable) == pytest.approx(device.memory * GIB)
        assert device.type == ("cpu" if device.name == "cpu" else "cuda")


def test_several_cards_share_the_batch_and_keep_room_for_gradients():
    config = planned_config("har", "tiny", None, ["schedule.batch_size=8"])
    found = plan_training(config, H100, 2, "title", with_choices=False)
    assert num_rounds(of_one_device(config, 2)) == 1
    assert found.memory[GRADIENTS] >= found.memory["weights"]
    assert found.times.sent == 2 / 2 * found.memory["weights"]
    assert found.times.total > found.times.exchange == found.times.sent / (0.8 * 450e9)
    with pytest.raises(UsageError, match="a batch of 8 cannot be cut"):
        plan_training(config, H100, 3, "title")


def test_shards_of_a_model_are_gathered_for_each_micro_batch():
    alone = {"weights": 100, "average": 100, "optimizer": 200, "generator": 80, "discriminator's weights": 10}

    def group(cards: int, rounds: int, *words: str) -> Group:
        return Group.of(planned_config("har", "tiny", None, [*words]), cards)._replace(rounds=rounds)

    fsdp, bf16 = "compute.sharding=fsdp", "compute.precision=bf16"
    assert group(1, 1, fsdp).memory(alone) == alone and group(1, 1, fsdp).exchanged(alone) == 0
    assert group(4, 2).memory(alone) == alone | {GRADIENTS: 100}
    assert group(4, 2).exchanged(alone) == 3 / 4 * 2 * (100 + 10)
    shards = {"weights": 25, "average": 25, "optimizer": 50, GRADIENTS: 25, "generator": 80}
    assert alone | shards == group(4, 1, fsdp).memory(alone)
    assert alone | shards | {GRADIENTS: 100} == group(4, 2, fsdp).memory(alone), "which wait for the second"
    assert group(4, 1, fsdp).exchanged(alone) == 3 / 4 * 3 * 100
    assert group(4, 2, fsdp, bf16).exchanged(alone) == 3 / 4 * (4 * 50 + 100)


@pytest.mark.parametrize(("precision", "offered"), [("bf16", True), ("fp16", False)])
def test_shards_are_offered_where_a_run_may_have_them(precision, offered, monkeypatch):
    parts = {"weights": GIB, "generator": GIB}
    counter = SimpleNamespace(at_peak=lambda: parts, peaks=lambda *_: [parts], work={}, work_by_part=dict)
    monkeypatch.setattr(plan, "count_step", lambda config, gpu: counter)
    config = planned_config("har", "tiny", None, [f"compute.precision={precision}", "compute.compile=true"])
    found = plan_training(config, H100, 2, "title")
    assert ("compute.sharding=fsdp" in [choice["choice"] for choice in found.choices]) == offered
    assert found.notes == ["compute.compile is left out: what is compiled keeps less, and starts fewer operations"]


def test_what_fits_a_card_is_the_mildest_choice_of_settings(monkeypatch):
    """On a card of 10 GiB for what is counted, of which 4 are taken whatever the batch is."""
    each = {"fast": 1.0, "balanced": 0.5, "small": 0.25}  # GiB of an image

    def count(config, device):
        images = config.schedule.micro_batch_size * each[config.compute.memory]
        parts = {"weights": GIB, "average": GIB, "optimizer": GIB, "encoder": int(images * GIB)}
        return SimpleNamespace(at_peak=lambda: parts, peaks=lambda *_: [parts])

    monkeypatch.setattr(plan, "count_step", count)

    def found(memory: float, *words: str) -> list[str]:
        config = planned_config("tokenizer", "tiny", None, ["schedule.batch_size=64", *words])
        return plan.fitting(config, EXACT._replace(memory=memory), 1, lambda line: None)[1]

    fast = "compute.memory=fast"
    assert found(100, fast) == [fast, "schedule.micro_batch_size=64"]
    assert found(13, fast) == [fast, "schedule.micro_batch_size=8"]
    assert found(10, fast) == ["compute.memory=balanced", "schedule.micro_batch_size=8"]
    assert found(10, "compute.memory=small") == ["compute.memory=small", "schedule.micro_batch_size=16"]
    assert found(4.3, fast) == ["compute.memory=small", "schedule.micro_batch_size=1"]
    with pytest.raises(RestokError, match="64 images a step do not fit 4 GiB, not even one at a time"):
        found(4, fast)


def test_training_as_json_says_where_each_figure_comes_from(capsys):
    words = ["--gpu", "4090", "--price-per-hour", "0.5", "--max-steps", "7", "--batch-size", "8"]
    found = report(capsys, "train-har", "--preset", "tiny", *words)
    assert found["steps"] == 7 and found["title"].startswith("train-har: 8 images a step")
    assert sum(found["memory_bytes"].values()) == found["peak_bytes"] < found["needed_bytes"]
    assert found["price"] == pytest.approx(0.5 * found["hours"])
    assert found["fits"] and found["largest_batch"] > 1000
    assert next(choice["choice"] for choice in found["choices"]) == "as it is"
    assert set(found["sources"]) == {"counted", "computed", "assumed", "data sheet"}


def test_drawing_encoding_and_features(capsys):
    drawing = report(
        capsys, "generate", "--preset", "tiny", "--tokenizer", "tiny", "--count", "100", "--batch-size", "8"
    )
    assert drawing["steps"] == 13
    assert {"generator", "decoder", "pixel_decoder"} <= set(drawing["work"])
    encoding = report(capsys, "encode", "--tokenizer", "tiny", "--count", "100")
    assert encoding["work"]["encoder"]["flops"] > 0
    features = report(capsys, "evaluate", "--size", "96", "--batch-size", "2")
    assert features["work"]["Inception"]["flops"] > 1e9


def test_lines_for_people(capsys):
    assert run(["plan", "train-har", "--preset", "tiny", "--no-choices", "--price-per-hour", "2"]) == 0
    text = capsys.readouterr().out
    for words in (
        "(counted) of 79.2 GiB (data sheet)",
        "images at a time that fit",
        "(computed)",
        "price: ",
        "kWh (assumed",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (
            ["train-tokenizer", "--preset", "tiny", "--fit", "much"],
            "--fit much: give the memory of a card, such as 24GB",
        ),
        (["train-tokenizer", "--preset", "nope"], "nope"),
        (["train-har", "--preset", "tiny", "--num-processes", "7"], "cannot be cut into micro-batches"),
    ],
)
def test_errors_are_one_line(words, error, capsys):
    assert run(["plan", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert error in line


def test_sizes_of_memory():
    assert [parse_memory(text) for text in ("80GiB", "24", "24GB")] == [80, 24, pytest.approx(22.35, abs=0.01)]
    with pytest.raises(UsageError):
        parse_memory("0")


@pytest.mark.parametrize(("rise", "said"), [(3.0, ""), (4.0, "memory rose by 4.3 GB, and restok plan counts 3.2 GB")])
def test_the_preflight_says_where_memory_is_not_as_counted(rise, said, monkeypatch, capsys):
    """Frozen networks were in memory before it began."""
    config = planned_config("tokenizer", "tiny", None)
    parts = {"weights": 1 * GIB, "encoder": 2 * GIB, "frozen networks": GIB}
    monkeypatch.setattr(preflight, "count_step", lambda config, gpu: SimpleNamespace(at_peak=lambda: parts))
    preflight.compare(config, int(rise * GIB), torch.device("cpu"))
    assert capsys.readouterr().err.startswith(f"preflight: {said}") if said else not capsys.readouterr().err
