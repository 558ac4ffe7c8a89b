"""Classes as people name them: by number, name, part of a name, or the synset of ImageNet."""

import re
from collections.abc import Sequence
from hashlib import sha256
from unicodedata import normalize

from restok_cli.console import note
from restok_cli.data.sources.imagenet import read_classes
from restok_cli.errors import UsageError, did_you_mean

SHOWN = 5  # of classes in a message


def usual_names(names: list[str]) -> list[str]:
    """The names of ImageNet in place of the bare numbers that a model of its 1000 classes may come with."""
    imagenet = list(read_classes().values())
    return imagenet if names == [str(i) for i in range(len(imagenet))] else names


def choose_classes(wanted: list[str] | None, names: list[str], count: int, seed: int) -> list[int]:
    """A class id for each of `count` images: those wanted in turn, so that all come equally often, give or take one.

    `all` (also where nothing is wanted) stands for all classes, `random` for one drawn from all for each image by
    (seed, image) alone. Raises UsageError where a class is not in `names`, or there are none.
    """
    if not names:
        if wanted:
            raise UsageError("this model was trained without classes; leave --class out")
        return [0] * count
    if wanted == ["random"]:
        draws = (sha256(f"class {seed} {i}".encode()).digest()[:8] for i in range(count))
        return [int.from_bytes(draw) % len(names) for draw in draws]
    ids: list[int] = []
    for word in wanted or ["all"]:
        if word == "random" and word not in names:
            raise UsageError("--class random draws from all classes; give it alone")
        ids += range(len(names)) if word == "all" and word not in names else [find_class(word, names)]
    return [ids[i % len(ids)] for i in range(count)]


def find_class(wanted: str, names: Sequence[str]) -> int:
    """The id of a class given by its name, number, synset, or by the beginning of words that only one name
    holds, which is noted.

    Raises UsageError where there is none such, or several.
    """
    names = [normalize("NFC", name) for name in names]  # a keyboard's é is one character, that of macOS's files is two
    wanted = normalize("NFC", wanted)
    exact = [i for i, name in enumerate(names) if name == wanted]
    if len(exact) == 1:
        return exact[0]
    if wanted.isdecimal():
        if int(wanted) < len(names):
            return int(wanted)
        raise _unknown(wanted, names)
    if (of_synset := _of_synset(wanted, names)) is not None:
        return of_synset
    words = _words(wanted)
    # a name may list synonyms, as WordNet does
    found = exact or [i for i, name in enumerate(names) if words in map(_words, [name, *name.split(",")])]
    if not found and any(map(str.isalpha, words)):
        found = [i for i, name in enumerate(names) if f" {words}" in f" {_words(name)}"]
        if len(found) == 1:
            note(f"--class {wanted}: taken as {names[found[0]]} ({found[0]})")
    if not found:
        raise _unknown(wanted, names)
    if len(found) > 1:
        meant = ", ".join(f"{names[i]} ({i})" for i in found[:SHOWN]) + (", …" if len(found) > SHOWN else "")
        raise UsageError(f"--class {wanted} may mean {meant}; give one of these numbers")
    return found[0]


def _words(text: str) -> str:
    return " ".join(re.sub(r"[_\-.]", " ", text).lower().split())


def _of_synset(wanted: str, names: Sequence[str]) -> int | None:
    """The class of a synset, where the names are those of ImageNet."""
    synsets = read_classes() if re.fullmatch(r"n\d{8}", wanted) else {}
    class_id = list(synsets).index(wanted) if wanted in synsets else len(names)
    return class_id if class_id < len(names) and names[class_id] == synsets[wanted] else None


def _unknown(wanted: str, names: Sequence[str]) -> UsageError:
    near = did_you_mean(wanted, names)
    some = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
    return UsageError(
        f"--class {wanted}: no such class{near}; give a name ({some}), or a number from 0 to {len(names) - 1}"
    )
