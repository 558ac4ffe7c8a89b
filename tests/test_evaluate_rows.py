"""A row of `restok evaluate`: a metric's name, its caveats, and which metrics there are."""

import pytest

from restok_cli.metrics.networks.features import RandomNetwork
from restok_cli.metrics.numbers import FEATURE_FORMULAS, PIXEL_FORMULAS
from restok_cli.metrics.protocol import Measurement, caveat, remarks
from restok_cli.metrics.table import CHOICES, METRICS, name_with_count


def test_ten_thousand_pictures_and_published_weights_have_no_caveat():
    network = RandomNetwork()
    assert "random" in caveat(50_000, network)
    network.published = True
    assert caveat(10_000, network) == ""
    assert "10,000" in caveat(9_999, network)


def test_number_of_pictures_that_papers_do_not_use_is_remarked_upon_but_comparable():
    usual, unusual = Measurement("gfid", 2.0, 50_000), Measurement("gfid", 2.0, 10_000)
    assert remarks([usual]) == []
    assert remarks([unusual]) == ["papers mostly measure 50,000 images, which matters for FID: gFID-10k"]


@pytest.mark.parametrize(("n", "name"), [(64, "gFID-64"), (5000, "gFID-5k"), (50_000, "gFID-50k"), (1906, "gFID-1906")])
def test_names_carry_the_number_of_pictures(n, name):
    assert name_with_count("gFID", n) == name


def test_every_metric_is_defined_and_every_row_has_a_function():
    assert all(metric.definition for metric in METRICS.values())
    of_codes = {name for name, metric in METRICS.items() if metric.basis == "codes"}
    assert of_codes == {"codebook_usage", "codebook_entropy", "codebook_perplexity", "nll"}
    assert METRICS.keys() == FEATURE_FORMULAS.keys() | PIXEL_FORMULAS.keys() | {"lpips"} | of_codes


def test_a_metric_is_asked_for_by_its_name_and_the_codebook_by_one():
    of_codebook = {name for name in METRICS if name.startswith("codebook_")}
    assert list(CHOICES) == [*(name for name in METRICS if name not in {*of_codebook, "nll"}), "codebook", "nll"]
