"""`restok evaluate --perturb`: the FID of images decoded from codes of which some are replaced."""

import hashlib
import json
from statistics import fmean

import numpy as np
import pytest
import torch

from restok_cli.data.images import save_image, to_float, to_uint8
from restok_cli.evaluation import perturbed
from restok_cli.evaluation.perturbed import evaluate_perturbed, nearest_codewords, perturb
from restok_cli.evaluation.request import Perturbation, Request, keys_of, parse_perturbations
from restok_cli.metrics.cache import FeatureCache
from restok_cli.metrics.formulas.frechet import GaussianStatistics, frechet_distance
from restok_cli.metrics.measure import Instruments
from restok_cli.metrics.networks.features import RandomNetwork
from restok_cli.metrics.table import features_of
from restok_cli.pretrained.modules import save_tokenizer


@pytest.fixture(scope="module")
def images(tiny_config):
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (20, 3, *tiny_config.image_size), dtype=torch.uint8, generator=rng)


@pytest.fixture
def measure(tmp_path, tiny_tokenizer, images, restok):
    for i, image in enumerate(images):
        save_image(image, tmp_path / "pictures" / f"{i:06d}.png")
    save_tokenizer(tiny_tokenizer, tmp_path / "tokenizer")

    def call(*arguments, code=0):
        command = ("evaluate", tmp_path / "pictures", "--model", tmp_path / "tokenizer", "--features", "random")
        found = restok(*command, *arguments)
        assert found.code == code, found.err
        return found

    return call


def gaussian(images):
    statistics = GaussianStatistics(RandomNetwork.dimensions)
    statistics.add(RandomNetwork()(images).pool)
    return statistics.gaussian()


def naive_pfid(images, tokenizer, share, nearest):
    """Image by image: of the codes that come first in an order of the image's own, each has a new codeword."""
    codewords = tokenizer.quantizer.codewords()
    decoded = []
    for image in images:
        (codes,) = tokenizer.encode(to_float(image[None])).tolist()
        rng = np.random.RandomState(np.frombuffer(hashlib.sha256(image.numpy().tobytes()).digest(), "<u4"))
        order, chances = rng.permutation(len(codes)), rng.random_sample(len(codes))
        for place in order[: round(share * len(codes))]:
            distances = (codewords - codewords[codes[place]]).square().sum(1).tolist()
            near = sorted(range(len(codewords)), key=distances.__getitem__)[:nearest]
            codes[place] = near[int(chances[place] * nearest)]
        decoded.append(to_uint8(tokenizer.decode(torch.tensor([codes]))))
    return frechet_distance(gaussian(torch.cat(decoded)), gaussian(images))


def test_pfid_equals_a_naive_one_and_several_have_their_mean(measure, tiny_tokenizer, images):
    result = json.loads(measure("--perturb", "0.25,0.5", "--nearest", "3,9", "--json").out)
    found = result["metrics"]
    keys = [f"pfid[{share},{nearest}]" for share in (0.25, 0.5) for nearest in (3, 9)]
    assert list(found) == ["pfid", *keys]
    assert found["pfid"]["value"] == fmean(found[key]["value"] for key in keys)
    assert found["pfid"]["name"] == "pFID-20(α=0.25,0.5, δ=3,9)"
    assert found["pfid[0.5,9]"]["name"] == "pFID-20(α=0.5, δ=9)"
    tiny_tokenizer.eval()
    with torch.inference_mode():
        for share, nearest in ((0.25, 3), (0.5, 9)):
            expected = naive_pfid(images, tiny_tokenizer, share, nearest)
            assert found[f"pfid[{share},{nearest}]"]["value"] == pytest.approx(expected, rel=1e-4)
    assert result["protocol"]["perturbations"][1] == {"share": 0.25, "nearest": 9}
    assert len(result["protocol"]["model_fingerprint"]) == 64


def test_one_perturbation_has_one_key_which_limits_and_comparison_know(measure, tmp_path, restok):
    options = ("--perturb", "0.5", "--nearest", "4")
    found = measure(*options, "--fail-under", "pfid=0.0001", code=4)
    name, features, *_ = found.out.split(" (")
    assert (name, features.split(")")[0]) == ("pFID-20(α=0.5, δ=4)", "random")
    assert f"against {tmp_path / 'pictures'} (20)" in found.out
    files = []
    for options in (("0.5", "4"), ("0.5", "8")):
        files.append(tmp_path / f"{options[1]}.json")
        files[-1].write_text(measure("--perturb", options[0], "--nearest", options[1], "--json").out)
    assert restok("evaluate", "--compare", files[0], files[0]).out.splitlines()[1].startswith("pFID-20(α=0.5, δ=4) (ra")
    unlike = restok("evaluate", "--compare", *files)
    assert unlike.code == 1
    assert "setting: α=0.5, δ=4 and α=0.5, δ=8" in unlike.err


def test_a_code_is_replaced_by_one_of_those_nearest_to_it_and_a_greater_share_replaces_more(monkeypatch):
    monkeypatch.setattr(perturbed, "ROWS", 16)  # which take turns
    rng = torch.Generator().manual_seed(0)
    codewords, codes = torch.randn(50, 4, generator=rng), torch.randint(50, (64,), generator=rng)
    neighbours = nearest_codewords(codewords, 9)
    assert torch.equal(neighbours, torch.cdist(codewords.double(), codewords.double()).argsort(1)[:, :9].int())
    digest = bytes(range(32))
    few, many = (perturb(codes, digest, Perturbation(share, 9), neighbours) for share in (0.25, 0.75))
    changed = few != codes
    assert 8 <= changed.sum() <= 16  # of 16 that are drawn, about one in nine stays as it is
    assert torch.equal(few[changed], many[changed])
    for before, after in zip(codes.tolist(), many.tolist(), strict=True):
        assert after in neighbours[before].tolist()
    assert not torch.equal(few, perturb(codes, digest[::-1], Perturbation(0.25, 9), neighbours))
    equal = nearest_codewords(torch.zeros(5, 2), 3)
    assert equal[:, 0].tolist() == list(range(5))  # itself first, also where others are as near


def test_several_networks_name_themselves_behind_the_perturbation(measure, tmp_path):
    class Other(RandomNetwork):
        name = "other"

    measure("--metric", "codebook")  # which writes images and tokenizer
    perturbations = parse_perturbations("0.5", "4,8")
    request = Request(
        *(str(tmp_path / "pictures"), ["pfid"], "all", None, None, tmp_path / "tokenizer", None, 10**6, 10**6),
        perturbations=perturbations,
    )
    instruments = Instruments(
        [FeatureCache(None, network) for network in (RandomNetwork(), Other())], torch.device("cpu"), 64
    )
    found, protocol, *_ = evaluate_perturbed(request, instruments)
    keys = keys_of("pfid", request, ("random", "other"))
    assert sorted(found) == sorted(keys)
    assert "pfid[0.5,8][other]" in keys
    assert found["pfid[0.5,8][other]"].value == found["pfid[0.5,8][random]"].value != found["pfid[other]"].value
    assert features_of("pfid[0.5,8][other]", protocol)["network"] == "other"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--perturb", "0.1"], "--perturb 0.05,0.1 and --nearest 100 go together"),
        (["--nearest", "9"], "--perturb 0.05,0.1 and --nearest 100 go together"),
        (["--perturb", "0.1,x", "--nearest", "9"], "--perturb 0.1,x: x is no share"),
        (["--perturb", "1.5", "--nearest", "9"], "--perturb 1.5: 1.5 is no share"),
        (["--perturb", "0.1", "--nearest", "1"], "--nearest 1: give numbers of codewords from 2 on"),
        (["--perturb", "0.1", "--nearest", "9", "--reference", "sample"], "leave --reference out"),
        (["--perturb", "0.1", "--nearest", "9", "--num-codes", "1"], "leave --num-codes out"),
        (["--perturb", "0.1", "--nearest", "9", "--metric", "psnr"], "--perturb measures pfid, not psnr"),
        (["--metric", "pfid"], "pfid perturbs codes; say how, for example --perturb 0.05,0.1 --nearest 100"),
        (
            ["--perturb", "0.1,0.2", "--nearest", "9", "--fail-under", "pfid[0.1]=3"],
            "give pfid or pfid[0.1,9] or pfid[",
        ),
        (["--perturb", "0.001", "--nearest", "9"], "--perturb 0.001 is none of an image's 128 codes"),
        (["--perturb", "0.1", "--nearest", "99999"], "--nearest 99999: this tokenizer's codebook has "),
    ],
)
def test_perturbations_that_cannot_be_meant_say_so(fails, arguments, message):
    assert message in fails(2, "evaluate", "sample", "--features", "random", *arguments)
