"""Which image is compared with which, where a metric compares one by one."""

from unicodedata import normalize

from restok_cli.console import counted, note
from restok_cli.errors import RestokError, UsageError
from restok_cli.metrics.image_sets import ImageSet
from restok_cli.metrics.reference import Reference


def align(reference: Reference, samples: ImageSet, metric: str) -> Reference:
    """The reference images in the order of `samples`, each at the place of its partner.

    Partners have the same key, however its accents are written, or, where one side has no names, the same place. Where
    a key comes in two splits of a data set, keys are <split>/<key>, as in a folder that has one for each split. Where a
    manifest lists the samples, the reference may hold more: what `reconstruct` could not read has no partner.

    Raises UsageError where there are no images to compare with, RestokError where a partner is missing or two have
    one name.
    """
    images = reference.images
    if reference.statistics is not None or images is None:
        raise UsageError(
            f"{metric} compares images with their originals, but {reference.source} holds statistics of a set;"
            " give the original images, or use --metric gfid"
        )
    if not (samples.named and images.named):
        if samples.count != images.count:
            raise RestokError(
                f"{samples.source} holds {counted(samples.count, 'image')} and {images.source} {images.count};"
                " without names they are paired by their order, so there must be as many"
            )
        return Reference(reference.source, None, images)
    ours, theirs = map(_index_by_key, (samples, images), _keys(samples, images))
    lonely = next((key for key in ours if key not in theirs), None)
    if lonely is not None:
        raise _no_partner(lonely, samples, images)
    extra = [key for key in theirs if key not in ours]
    if extra and not samples.listed:
        raise _no_partner(extra[0], images, samples)
    if extra:
        count = counted(images.count, "image")
        note(f"{len(extra)} of {count} of {images.source} left out for want of a partner")
    return Reference(reference.source, None, images.subset([theirs[key] for key in ours]))


def have_partners(samples: ImageSet, others: ImageSet) -> bool:
    """Whether `align` would find a partner for each; without names that is not known, so then not."""
    if not (samples.named and others.named):
        return False
    ours, theirs = map(set, _keys(samples, others))
    return ours == theirs or (samples.listed and ours < theirs)


def unique_keys(images: ImageSet) -> list[str]:
    """The key of each image of a set. Raises RestokError where two have one."""
    return list(_index_by_key(images, *_keys(images)))


def _index_by_key(images: ImageSet, keys: list[str]) -> dict[str, int]:
    indices: dict[str, int] = {}
    for index, key in enumerate(keys):
        if key in indices:
            names = {images.key(indices[key]), images.key(index)}
            how = f" ({' and '.join(sorted(map(ascii, names)))})" if len(names) > 1 else ""
            raise RestokError(f"{images.source} holds two images called {key}{how}; pairs need unique names")
        indices[key] = index
    return indices


def _keys(*sets: ImageSet) -> list[list[str]]:
    """The keys of each set by which partners find each other, with the split where in one of them it takes that."""
    # an é is one character, or two in names that macOS gives
    keys = [[normalize("NFC", images.key(index)) for index in range(images.count)] for images in sets]
    if not any(images.split and len(set(of_set)) < len(of_set) for images, of_set in zip(sets, keys, strict=True)):
        return keys
    return [
        [f"{images.split(index)}/{key}" if images.split else key for index, key in enumerate(of_set)]
        for images, of_set in zip(sets, keys, strict=True)
    ]


def _no_partner(key: str, images: ImageSet, others: ImageSet) -> RestokError:
    return RestokError(
        f"{key} of {images.source} ({counted(images.count, 'image')}) has no partner in {others.source}"
        f" ({others.count}); pairs need the same paths in both, suffix aside"
    )
