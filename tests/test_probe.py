"""`restok probe`: classifiers against simpler ones, features against the model's own, the command on a few images."""

import io
import json

import numpy as np
import pytest
import torch
from conftest import make_har
from PIL import Image
from scipy.stats import binomtest

from restok_cli.data.shards.layout import Sample
from restok_cli.data.shards.writer import write_dataset
from restok_cli.errors import UsageError
from restok_cli.evaluation import linear_probe
from restok_cli.evaluation.linear_probe import (
    HOLD_BACK,
    L2_CHOICES,
    Standardised,
    choose_l2,
    fit,
    is_held_back,
    linear_scores,
)
from restok_cli.evaluation.neighbour_probe import neighbour_scores
from restok_cli.evaluation.probe import accuracies, wilson
from restok_cli.evaluation.probe_data import open_labelled
from restok_cli.evaluation.probe_points import Which, open_probed
from restok_cli.metrics import image_sets
from restok_cli.model.config import HarConfig
from restok_cli.model.levels import level_sizes, prefix_lengths
from restok_cli.pretrained.folder import open_har, open_tokenizer
from restok_cli.pretrained.modules import load_for_use, save_har

CPU = torch.device("cpu")
CLASSES = [f"colour {i}" for i in range(6)]


def draw(n=80, width=5, num_classes=4, seed=0):
    """Features of classes that overlap, and the classes."""
    rng = np.random.default_rng(seed)
    class_ids = np.arange(n) % num_classes
    features = rng.normal(size=(num_classes, width))[class_ids] + rng.normal(size=(n, width)) * [1, 2, 3, 1, 1][:width]
    return torch.from_numpy(features), torch.from_numpy(class_ids)


# --- the linear probe ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_classes", "l2"), [(4, 0.3), (4, 0.003), (2, 0.03)])
def test_fit_is_scikit_learns(num_classes, l2):
    from sklearn.linear_model import LogisticRegression  # which takes seconds

    features, class_ids = draw(num_classes=num_classes)
    weights, biases = fit(features, class_ids, num_classes, l2, tolerance=1e-9).weights.T.split([5, 1], 1)
    strength = 1 / (len(features) * l2)
    if num_classes == 2:  # one column there, the difference of ours, whose squares are twice as many
        strength, weights, biases = 2 * strength, weights[1:] - weights[:1], biases[1:] - biases[:1]
    theirs = LogisticRegression(C=strength, tol=1e-8, max_iter=10_000).fit(features.numpy(), class_ids.numpy())
    np.testing.assert_allclose(weights, theirs.coef_, atol=1e-5)
    np.testing.assert_allclose(biases[:, 0], theirs.intercept_, atol=1e-5)


def newton(features, class_ids, num_classes, l2):
    """Newton's method on all weights at once, by the formulas."""
    inputs, one_hot = np.c_[features, np.ones(len(features))], np.eye(num_classes)[class_ids]
    shape = inputs.shape[1], num_classes
    penalty = np.full(shape, l2)
    penalty[-1] = 0
    weights = np.zeros(shape)
    for _ in range(20):
        scores = np.exp(inputs @ weights)
        p = scores / scores.sum(1, keepdims=True)
        gradient = inputs.T @ (p - one_hot) / len(inputs) + penalty * weights
        hessian = np.diag(penalty.ravel())
        for x, q in zip(inputs, p, strict=True):
            hessian += np.kron(np.outer(x, x), np.diag(q) - np.outer(q, q)) / len(inputs)
        weights -= (np.linalg.pinv(hessian) @ gradient.ravel()).reshape(shape)
    return weights


def test_fit_is_newtons_also_from_another_start_and_in_parts(monkeypatch):
    features, class_ids = draw()
    expected = newton(features.numpy(), class_ids.numpy(), 4, 0.01)
    np.testing.assert_allclose(fit(features, class_ids, 4, 0.01, tolerance=1e-9).weights, expected, atol=1e-6)
    monkeypatch.setattr(linear_probe, "ROWS", 7)
    start = torch.from_numpy(np.random.default_rng(1).normal(size=(6, 4)))
    start[-1] -= start[-1].mean()  # a constant added to all of b changes nothing
    np.testing.assert_allclose(fit(features, class_ids, 4, 0.01, start).weights, expected, atol=1e-4)


def test_fit_that_does_not_get_there_says_so(monkeypatch, capsys):
    monkeypatch.setattr(linear_probe, "MAX_ITERATIONS", 2)
    assert fit(*draw(), 4, 0.01).iterations == 2
    assert "not at the minimum after 2 iterations; a larger --l2" in capsys.readouterr().err


def test_standardised_features_have_deviation_1_and_constant_ones_are_0():
    features = torch.tensor([[1.0, 0.1, 5.0], [3.0, 0.1, 6.0], [5.0, 0.1, 7.0]])
    standardise = Standardised.of(features)
    found = standardise(features).numpy()
    np.testing.assert_allclose(found[:, [0, 2]].std(0), 1)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-12)
    assert (standardise(torch.tensor([[2.0, 9.0, 5.0]]))[0, 1], *found[:, 1]) == (0, 0, 0, 0)


def test_every_fifth_image_of_a_class_is_held_back():
    class_ids = torch.from_numpy(np.random.default_rng(0).integers(0, 4, 60))
    seen, expected = [0] * 4, []
    for class_id in class_ids.tolist():
        seen[class_id] += 1
        expected.append(seen[class_id] % HOLD_BACK == 0)
    assert is_held_back(class_ids).tolist() == expected
    assert sum(expected) > 5


def test_strength_is_chosen_by_the_loss_on_images_held_back():
    features, class_ids = draw(seed=3)
    held_back = is_held_back(class_ids)
    losses = []
    for l2 in L2_CHOICES:
        weights = fit(features[~held_back], class_ids[~held_back], 4, l2).weights
        logits = features[held_back] @ weights[:-1] + weights[-1]
        losses.append(torch.nn.functional.cross_entropy(logits, class_ids[held_back]).item())
    best = int(np.argmin(losses))
    assert 0 < best < len(L2_CHOICES) - 1
    assert choose_l2(features, class_ids)[0] == L2_CHOICES[best]
    with pytest.raises(UsageError, match="no class has 5 training images"):
        choose_l2(features[:16], class_ids[:16])


def test_classes_without_training_images_are_never_predicted():
    features, class_ids = draw(num_classes=3)
    scores, _ = linear_scores(features, class_ids * 2, features, 6, 0.1)
    assert scores.isneginf().all(0).tolist() == [False, True, False, True, False, True]
    other, _ = linear_scores(features, class_ids, features, 3, 0.1)
    assert (scores[:, ::2] == other).all()


# --- nearest neighbours -------------------------------------------------------------------------------------------


def naive_votes(train, class_ids, test, num_classes, k):
    votes = np.zeros((len(test), num_classes))
    for row, one in zip(votes, test, strict=True):
        similarities = [round(float(one @ x / np.linalg.norm(one) / np.linalg.norm(x)), 6) for x in train]
        nearest = sorted(range(len(train)), key=lambda i: (-similarities[i], i))[:k]
        for i in nearest:
            row[class_ids[i]] += np.exp((similarities[i] - 1) / 0.07)
    return np.where(votes > 0, votes, -np.inf)


@pytest.mark.parametrize("k", [1, 7, 1000])
def test_votes_are_those_of_a_naive_loop_also_where_many_are_as_near(k):
    rng = np.random.default_rng(0)
    train = rng.choice([-1.0, 0.5, 2.0], size=(60, 2)).astype(np.float32)  # nine different ones
    test, class_ids = rng.choice([-1.0, 0.5, 2.0], size=(20, 2)).astype(np.float32), rng.integers(0, 5, 60)
    found = neighbour_scores(*map(torch.from_numpy, (train, class_ids, test)), 6, k)
    np.testing.assert_allclose(found, naive_votes(*(train.astype(float), class_ids, test.astype(float)), 6, k))


# --- accuracies ---------------------------------------------------------------------------------------------------


def test_accuracies_count_as_a_naive_loop_does():
    rng = np.random.default_rng(0)
    scores, class_ids = rng.integers(0, 6, (50, 8)).astype(float), rng.integers(0, 8, 50)  # with many equal ones
    scores[scores == 0] = -np.inf
    right = {"top1": 0, "top5": 0}
    for row, class_id in zip(scores, class_ids, strict=True):
        order = sorted(range(8), key=lambda i: (-row[i], i))
        place = order.index(class_id)
        for name, top in (("top1", 1), ("top5", 5)):
            right[name] += place < top and row[class_id] > -np.inf
    found = accuracies(torch.from_numpy(scores), torch.from_numpy(class_ids))
    assert {name: round(50 * accuracy.value) for name, accuracy in found.items()} == right
    assert set(accuracies(torch.from_numpy(scores[:, :5]), torch.from_numpy(class_ids % 5))) == {"top1"}


@pytest.mark.parametrize(("count", "n"), [(0, 7), (7, 7), (3, 11), (500, 1001)])
def test_interval_is_wilsons(count, n):
    expected = binomtest(count, n).proportion_ci(method="wilson")
    assert wilson(count, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


# --- features -----------------------------------------------------------------------------------------------------


def images(count=3):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 3, 32, 32), np.uint8))


@torch.inference_mode()
def test_points_of_a_tokenizer_are_what_it_makes_of_an_image(tiny_models):
    probed = open_probed(tiny_models / "tokenizer", Which(None, None, None), None, CPU)
    rows, tokenizer = probed(images()).pool, load_for_use(open_tokenizer(tiny_models / "tokenizer"), CPU)
    for row, image in zip(rows, images(), strict=True):
        encoded = tokenizer.encode_latents(image[None] / 255)
        vectors = tokenizer.quantizer(encoded.latents).vectors[0]
        expected = {f"stage-{3 - i}": tokens[0].mean(0) for i, tokens in enumerate(encoded.image_tokens)}
        expected |= {f"latents-{n}": vectors[:n].flatten() for n in prefix_lengths(len(vectors))}
        assert {point.name for point in probed.points} == set(expected)
        for point in probed.points:
            torch.testing.assert_close(row[point.columns], expected[point.name], atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_points_of_a_generator_are_its_blocks_with_the_null_class(tiny_models):
    folder = open_har(tiny_models / "har")
    har, tokenizer = load_for_use(folder, CPU), load_for_use(open_tokenizer(tiny_models / "tokenizer"), CPU)
    outputs = []
    for block in har.blocks:
        block.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    codes = tokenizer.encode(images() / 255)
    har(torch.full((3,), 98), codes)
    ends = np.cumsum(level_sizes(32))
    for asked in (None, "2", "all"):
        probed = open_probed(tiny_models / "har", Which(None, asked, None), None, CPU)
        expected = {f"block-{b}": outputs[b - 1].mean(1) for b in {None: [1], "2": [2], "all": [1, 2]}[asked]}
        if asked != "all":
            block = int(asked or 1)
            levels = {k: outputs[block - 1][:, ends[k - 2] : ends[k - 1]] for k in range(2, 7)}
            expected |= {f"block-{block} level-{k}": tokens.mean(1) for k, tokens in levels.items()}
        assert {point.name for point in probed.points} == set(expected)
        rows = probed(images()).pool
        for point in probed.points:
            torch.testing.assert_close(rows[:, point.columns], expected[point.name], atol=1e-5, rtol=1e-4)


# --- the command --------------------------------------------------------------------------------------------------


def write_colours(folder, classes=CLASSES, splits=("train", "validation")):
    """Noise of a colour for each class: 6 images to fit on and 3 to test on."""
    rng, colours = np.random.default_rng(0), np.random.default_rng(1).integers(0, 200, (len(CLASSES), 1, 1, 3))
    samples = {}
    for split, count in zip(splits, (6, 3), strict=False):
        samples[split] = []
        for i in range(count * len(CLASSES)):
            class_id, buffer = i % len(CLASSES), io.BytesIO()
            Image.fromarray((colours[class_id] + rng.integers(0, 56, (32, 32, 3))).astype(np.uint8)).save(buffer, "PNG")
            known = class_id if classes else -1
            samples[split].append(Sample(f"{i:06d}", "png", buffer.getvalue(), (32, 32), known, {}))
    folder.mkdir()
    write_dataset(folder, samples, name=folder.name, class_names=classes, provenance={})
    return folder


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    return write_colours(tmp_path_factory.mktemp("probe") / "colours")


@pytest.fixture(scope="module")
def codes(colours, tiny_models):
    from restok_cli.cli import run

    out = colours.parent / "codes"
    assert (
        run(
            [
                "prepare",
                "codes",
                str(colours),
                str(out),
                "--tokenizer",
                str(tiny_models / "tokenizer"),
                "--views",
                "centre",
            ]
        )
        == 0
    )
    return out


@pytest.fixture
def probe(restok):
    """Run the command; return what it prints as JSON, but for the seconds that it took."""

    def call(*arguments):
        found = restok("probe", *arguments, "--json")
        assert found.code == 0, found.err
        result = json.loads(found.out)
        assert result["protocol"].pop("seconds") >= 0
        return result

    return call


def test_tokenizer_that_sees_colours_tells_them_apart_the_same_each_time(probe, restok, colours, tiny_models, tmp_path):
    command = (tiny_models / "tokenizer", colours, "--neighbours", 4, "--cache", tmp_path)
    result = probe(*command)
    found = {one["point"]: one for one in result["probes"]}
    assert list(found) == ["stage-1", "stage-2", "stage-3", *(f"latents-{n}" for n in prefix_lengths(32))]
    assert found["stage-3"]["linear"]["top1"]["interval"][0] > 2 / 6
    assert found["latents-4"]["dimensions"] == 4 * 8 and "first 4 latents" in found["latents-4"]["features"]
    assert result["baselines"] == {"chance": 1 / 6, "most_frequent": 1 / 6}
    assert result["protocol"]["train"]["n"] == 36 and result["protocol"]["linear"]["l2"].startswith(
        "chosen from 1, 0.1"
    )
    assert sum(1 for _ in tmp_path.rglob("*.npy")) == 3 + 2  # groups of 16
    assert probe(*command, "--batch-size", 1) == result  # by features that were kept
    assert probe(*command[:-2], "--no-cache") == result
    lines = restok("probe", *command).out.splitlines()
    assert "fitted on 36 images, tested on 18 images of 6 classes: by chance 16.7 %" in lines[0]
    assert len(lines) == 2 + len(found) and lines[1].split("  ")[0] == "point"


def test_generator_is_fed_with_images_or_with_their_codes(probe, colours, codes, tiny_models):
    by_images = probe(tiny_models / "har", colours, "--l2", 0.1, "--no-cache")
    by_codes = probe(tiny_models / "har", codes, "--l2", 0.1, "--no-cache")
    assert by_codes["probes"] == by_images["probes"]
    assert [one["point"] for one in by_codes["probes"]] == ["block-1", *(f"block-1 level-{k}" for k in range(2, 7))]
    assert by_codes["protocol"]["tokenizer_fingerprint"] == by_images["protocol"]["tokenizer_fingerprint"]
    assert "null class" in by_codes["protocol"]["condition"]
    assert {one["linear"]["l2"] for one in by_codes["probes"]} == {0.1}


def test_part_names_the_tokenizer_that_is_with_a_generator(probe, colours, tiny_models):
    options = (colours, "--l2", 0.1, "--no-cache")
    of_tokenizer = probe(tiny_models / "tokenizer", *options)
    assert probe(tiny_models / "har", *options, "--part", "tokenizer")["probes"] == of_tokenizer["probes"]


def test_two_processes_find_the_same_as_one(probe, restok, colours, tiny_models, monkeypatch):
    """One after the other in this process: the second's findings are kept for the first."""
    command, sent = (tiny_models / "har", colours, "--l2", 0.1, "--no-cache"), []
    expected = probe(*command)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("restok_cli.commands.probe.connect", lambda _: None)
    monkeypatch.setattr("restok_cli.commands.probe.run_in_processes", lambda _: None)
    with monkeypatch.context() as second:
        second.setenv("RANK", "1")
        second.setattr(image_sets, "gather", lambda found: sent.append(found) or [[], found])
        assert restok("probe", *command).out == ""
    assert len([found for found in sent if found]) == 1 + 1  # of three and two groups
    monkeypatch.setattr(image_sets, "gather", lambda found: [found, sent.pop(0)])
    assert probe(*command) == expected


def test_images_of_classes_that_were_not_trained_on_are_wrong_and_counted(probe, restok, tmp_path, tiny_models):
    data = write_colours(tmp_path / "data")
    labels = open_labelled(str(data)).split("train").class_ids
    assert set(labels) == set(range(6))
    few = tmp_path / "few"
    few.mkdir()
    found = open_labelled(str(data))
    parts = {
        name: [
            Sample(split.key(i), "png", split.read(i), (32, 32), split.class_id(i), {})
            for i in range(len(split))
            if name == "validation" or split.class_id(i) != 5
        ]
        for name, split in ((name, found.split(name)) for name in found.splits)
    }
    write_dataset(few, parts, name="few", class_names=CLASSES, provenance={})
    result = restok("probe", tiny_models / "tokenizer", few, "--l2", 0.1, "--no-cache", "--json")
    assert "3 test images of classes without training images: counted as wrong" in result.err
    best = max(one["linear"]["top5"]["value"] for one in json.loads(result.out)["probes"])
    assert best == 15 / 18


def test_what_cannot_be_probed_is_one_line(fails, restok, colours, codes, tiny_models, tmp_path):
    tokenizer, har = tiny_models / "tokenizer", tiny_models / "har"
    assert "prepare folder" in fails(2, "probe", tokenizer, write_colours(tmp_path / "plain", []))
    alone = write_colours(tmp_path / "alone", splits=("train",))
    assert "no validation split" in (line := fails(2, "probe", tokenizer, alone)) and "--validation-fraction" in line
    assert "no such data set" in fails(2, "probe", tokenizer, tmp_path / "nowhere")
    assert "holds no images" in fails(2, "probe", tokenizer, codes)
    assert "--block is of generators" in fails(2, "probe", tokenizer, colours, "--block", 1)
    assert "give 1 to 2, or all" in fails(2, "probe", har, colours, "--block", 3)
    assert "codes already" in fails(2, "probe", har, codes, "--tokenizer", tokenizer)
    assert "a tokenizer, but a generator is needed" in fails(2, "probe", tokenizer, colours, "--part", "generator")
    for option, value in (("--block", "middle"), ("--block", 0), ("--l2", 0), ("--l2", "much"), ("--l2", "nan")):
        assert f"{option} {value}: give" in fails(2, "probe", har, colours, option, value)
    other = tmp_path / "other"
    save_har(make_har(HarConfig(codebook_size=64, num_codes=32, num_classes=0, width=32, num_layers=1, num_heads=2)),
             open_tokenizer(tiny_models / "other"), [], other)  # fmt: skip
    assert "codes of another tokenizer" in fails(2, "probe", other, codes)


def test_it_says_where_the_null_class_was_never_trained(restok, colours, codes, tiny_models, tmp_path):
    config = HarConfig(
        codebook_size=64, num_codes=32, num_classes=6, width=32, num_layers=1, num_heads=2, class_dropout=0
    )
    save_har(make_har(config), open_tokenizer(tiny_models / "tokenizer"), CLASSES, tmp_path / "har")
    result = restok("probe", tmp_path / "har", codes, "--l2", 0.1, "--no-cache")
    assert result.code == 0 and "has never seen the null class" in result.err
