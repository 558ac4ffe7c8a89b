"""What a model takes from the one that it starts from (`--init`), and what starts fresh."""

import pytest
import torch
from conftest import make_har

from restok_cli.data.classes import usual_names
from restok_cli.errors import UsageError
from restok_cli.model.config import HarConfig
from restok_cli.model.har import Har
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.training.warm_start import check_fits, say_other_classes, take_weights


def changed(model, **weights):
    """The names of what is not as in `weights`."""
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, weights[name])}


@pytest.mark.parametrize("num_classes", [3, 5])
def test_a_generator_takes_all_but_the_embeddings_of_other_classes(capsys, num_classes):
    config = HarConfig(codebook_size=64, num_codes=32, num_classes=3, width=32, num_layers=2, num_heads=2)
    given = make_har(config.model_copy(update={"num_classes": num_classes})).state_dict()
    torch.manual_seed(1)
    har = Har(config)
    before = har.class_embedding.weight.detach().clone()
    take_weights(har, make_har(config.model_copy(update={"num_classes": num_classes})))
    fresh = {"class_embedding.weight"} if num_classes != 3 else set()
    assert changed(har, **given) == fresh
    if fresh:
        assert torch.equal(har.class_embedding.weight[:-1], before[:-1])
        assert torch.equal(har.class_embedding.weight[-1], given["class_embedding.weight"][-1]), "of no class"
    assert capsys.readouterr().err == "".join(f"--init: starting fresh: {name}\n" for name in fresh)


def test_other_classes_of_the_same_number_are_said(capsys):
    numbers = [str(i) for i in range(1000)]
    for theirs, ours in ((["a", "b"], ["a", "b"]), (["a", "b"], ["a"]), (numbers, usual_names(numbers))):
        say_other_classes(theirs, ours)
    assert capsys.readouterr().err == ""
    say_other_classes(["a", "b", "c"], ["a", "c", "b"])
    assert capsys.readouterr().err.startswith("--init: class 1 of the model given is b, and c in the data; each class ")


def test_what_training_alone_needs_may_be_missing_and_nothing_else(tiny_config):
    aligned = Tokenizer(tiny_config.model_copy(update={"encoder_alignment_dim": 8, "decoder_alignment_dim": 8}))
    plain = Tokenizer(tiny_config.model_copy(update={"encoder_alignment_dim": None, "decoder_alignment_dim": None}))
    heads = set(aligned.state_dict()) - set(plain.state_dict())
    assert heads == set(check_fits(aligned, plain)) and check_fits(plain, aligned) == []
    deeper = Tokenizer(plain.config.model_copy(update={"decoder_layers": plain.config.decoder_layers + 1}))
    with pytest.raises(UsageError, match=r"--init: decoder\..* is missing in the model given, and \("):
        check_fits(deeper, plain)
    with pytest.raises(UsageError, match=r"--init: the model to train has no place for decoder\."):
        check_fits(plain, deeper)
