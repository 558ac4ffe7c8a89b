"""Classes as people name them."""

import pytest

from restok_cli.data.classes import choose_classes, find_class, usual_names
from restok_cli.errors import UsageError

NAMES = ["tench, Tinca tinca", "golden_retriever", "crane", "sports-car", "crane", "all", "3"]


@pytest.mark.parametrize(
    ("wanted", "class_id"),
    [
        ("golden_retriever", 1),
        ("Golden Retriever", 1),
        ("golden-retriever", 1),
        ("tench", 0),
        ("tinca tinca", 0),
        ("0", 0),
        ("4", 4),
        ("3", 6),  # a name before a number
        ("retriever", 1),
        ("sports", 3),
    ],
)
def test_classes_are_found_by_name_number_synset_synonym_and_part(wanted, class_id):
    assert find_class(wanted, NAMES) == class_id


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("crane", r"--class crane may mean crane \(2\), crane \(4\); give one of these numbers"),
        ("c", r"--class c may mean crane \(2\), sports-car \(3\), crane \(4\); give"),
        (
            "gulden_retreiver",
            r"no such class \(did you mean golden_retriever\?\); give a name \(.*, …"
            r"\), or a number from 0 to 6",
        ),
        ("7", "no such class"),
        ("-1", "no such class"),
        ("", "no such class"),
    ],
)
def test_unknown_and_ambiguous_classes_are_refused(wanted, message):
    with pytest.raises(UsageError, match=message):
        find_class(wanted, NAMES)
    if wanted.isdecimal():  # also where it is a synonym
        with pytest.raises(UsageError, match=message):
            find_class(wanted, ["route", f"road, {wanted}"])


@pytest.mark.parametrize("wanted", ["caf\u00e9", "cafe\u0301"])
@pytest.mark.parametrize("name", ["caf\u00e9", "cafe\u0301", "Caf\u00e9_noir"])
def test_both_forms_of_an_accent_are_one_name(wanted, name):
    assert find_class(wanted, ["x", name]) == 1


def test_synsets_are_known_where_the_names_are_those_of_imagenet():
    numbers = [str(i) for i in range(1000)]
    names = usual_names(numbers)
    assert find_class("n01443537", names) == 1 and names[1] == "goldfish"
    assert usual_names(names) == names and usual_names(numbers[:-1]) == numbers[:-1]
    for others in (NAMES, names[::-1]):
        with pytest.raises(UsageError, match="no such class"):
            find_class("n01443537", others)


def test_what_a_part_of_a_name_was_taken_for_is_said(capsys):
    find_class("retriever", NAMES)
    assert capsys.readouterr().err == "--class retriever: taken as golden_retriever (1)\n"


def test_50000_pictures_have_50_of_each_of_1000_classes():
    names = [f"class {i}" for i in range(1000)]
    for wanted in (None, ["all"]):
        ids = choose_classes(wanted, names, 50_000, 0)
        assert sorted(ids) == sorted(list(range(1000)) * 50)


def test_several_classes_take_turns():
    assert choose_classes(["a", "1", "a"], ["a", "b"], 5, 0) == [0, 1, 0, 0, 1]


def test_random_classes_depend_on_seed_and_picture_alone():
    names = [str(i) for i in range(10)]
    ids = choose_classes(["random"], names, 2000, 7)
    assert choose_classes(["random"], names, 100, 7) == ids[:100]
    assert choose_classes(["random"], names, 2000, 8) != ids
    assert all(150 < ids.count(i) < 250 for i in range(10))


def test_a_class_called_all_is_one_class():
    assert choose_classes(["all"], NAMES, 2, 0) == [5, 5]


def test_models_without_classes_take_none():
    assert choose_classes(None, [], 3, 0) == [0, 0, 0]
    with pytest.raises(UsageError, match="trained without classes"):
        choose_classes(["all"], [], 3, 0)
