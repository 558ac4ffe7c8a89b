"""Sizes of prepared images, from the heads of some of their files."""

from restok_cli.data.image_files import open_image
from restok_cli.data.shards.dataset import Dataset, StreamedSplit
from restok_cli.errors import ImageError

MOST_LOOKED_AT = 500  # spread evenly over the split


def sizes_in(data: Dataset) -> list[tuple[int, int]]:
    """(height, width) of images to train on, as their files say; of shards that can only be streamed, none.

    Of a data set without a training split they are those of its first one.
    """
    split = data.split("train" if "train" in data.splits else data.splits[0])
    if isinstance(split, StreamedSplit):
        return []
    count, sizes = len(split), []
    looked_at = min(count, MOST_LOOKED_AT)
    for number in range(looked_at):
        i = number * count // looked_at
        try:
            with open_image(split.read(i), split.describe(i), max_pixels=None) as image:
                sizes.append((image.height, image.width))
        except ImageError:  # of which whoever trains on it will be told
            continue
    return sizes
