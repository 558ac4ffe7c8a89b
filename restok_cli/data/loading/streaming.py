"""Images from shards that are elsewhere (a URL) or have no index: read from front to back, through webdataset.

What the loader of local shards promises cannot be promised of these: see `streamed_batches`.
"""

import random
import re
import tarfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from hashlib import sha256
from itertools import count, islice
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import torch
from torch.utils.data import IterableDataset, get_worker_info

from restok_cli.console import note, readable
from restok_cli.data.image_files import center_crop, read_image
from restok_cli.data.images import to_tensor
from restok_cli.data.loading.batching import READERS, Batch, BrokenSamples, Deal, Loaded, end_reader, load, shuffle
from restok_cli.data.loading.transforms import Transform
from restok_cli.data.shards import tars
from restok_cli.data.shards.dataset import StreamedSplit, shell_command
from restok_cli.data.shards.layout import NO_CLASS
from restok_cli.data.sources.imagenet import synset_ids
from restok_cli.errors import ImageError, RestokError

if TYPE_CHECKING:
    from webdataset.gopen import Pipe
from restok_cli.files import MAX_MEMBER_BYTES

SHUFFLE_BUFFER = 1000  # images, still encoded, among which each worker draws the next one: about 100 MB
SHUFFLE_BYTES = 512 << 20  # of large ones, fewer
FIRST_DRAW = 100  # images that there must be before the first one is drawn
READ_ERRORS = (OSError, EOFError, ValueError, tarfile.TarError)

Files = dict[str, tars.Contents]  # by extension; those that neither are images nor say a class are left empty


class StreamedSample(NamedTuple):
    """A sample as it comes out of a shard."""

    key: str
    class_id: int  # NO_CLASS where the data set has no classes
    name: str  # shard and image file, for messages, and for what a suffix may tell
    data: tars.Contents  # of the image file
    beside: Sequence[str] = ()  # extensions of images that it has beside its own

    @property
    def num_bytes(self) -> int:
        return len(self.data) if isinstance(self.data, bytes) else 0


def streamed_batches(
    split: StreamedSplit, transform: Transform, deal: Deal, size: int, num_workers: int, broken_limit: float
) -> Generator[Batch, None, None]:
    """Training batches of `size` without end, of shards that are read as they come.

    The shards are shuffled anew in each epoch and divided among all workers of all processes, which go through them
    at their own pace and shuffle within a buffer; where there are fewer shards than workers, each reads all and keeps
    its share of the samples. The same seed, step, workers and processes give the same batches. Other than with local
    shards, another number of workers or processes gives another order, and a run that starts at a later step begins
    an epoch of its own: over the whole run, samples come about equally often, not exactly.

    Raises RestokError, where a batch needs it, for a shard that cannot be read to its end, and for too many broken
    samples: past the share `broken_limit` of the split, or of those seen where nobody has counted it.
    """
    if deal.rank == 0:
        note(
            f"the {split.name} shards are elsewhere and streamed: the order depends on the number of workers and"
            " processes, and a resumed run goes on with an epoch of its own"
        )
    broken = BrokenSamples(split.num_samples, broken_limit, "make the shards again, without them")
    stream = _Stream(split, transform, deal, size)
    num_seen, beside = 0, set()
    for loaded in load(stream, num_workers):
        for extension in loaded.beside - beside:
            note(f"the {split.name} shards hold .{extension}, passed over: {tars.IMAGE_RULE}")
        beside |= loaded.beside
        broken.num_samples = split.num_samples or num_seen
        broken.add(loaded.broken)
        if loaded.batch is not None:
            num_seen += len(loaded.batch.class_ids)
            yield loaded.batch


class _Stream(IterableDataset):
    """Dataset of batches for DataLoader. Errors come back as values: raised, they would bring a worker's traceback."""

    def __init__(self, split: StreamedSplit, transform: Transform, deal: Deal, size: int):
        self.split, self.transform, self.deal, self.size = split, transform, deal, size

    def __iter__(self) -> Iterator[Loaded | RestokError]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        try:
            yield from self._batches(self.deal.rank * workers + number, self.deal.world_size * workers)
        except RestokError as error:
            yield error

    def _batches(self, reader: int, num_readers: int) -> Iterator[Loaded]:
        images, class_ids, beside = [], [], set()
        for epoch, sample in self._samples(reader, num_readers):
            number = int.from_bytes(sha256(sample.key.encode()).digest()[:7])  # it has no other
            try:
                images.append(self.transform(tars.contents(sample.data), sample.name, epoch, number))
                beside.update(sample.beside)
            except ImageError as error:
                yield Loaded(None, {sample.key: str(error)})
                continue
            class_ids.append(sample.class_id)
            if len(images) == self.size:
                yield Loaded(Batch(torch.stack(images), torch.tensor(class_ids)), {}, frozenset(beside))
                images, class_ids = [], []

    def _samples(self, reader: int, num_readers: int) -> Iterator[tuple[int, StreamedSample]]:
        """This reader's (epoch, sample) pairs, without end."""
        urls, self.num_read = self.split.urls, 0
        whole_shards = len(urls) >= num_readers
        for epoch in count(self.deal.first_step):  # an epoch of its own
            before, order = self.num_read, [urls[i] for i in shuffle(len(urls), self.transform.seed, epoch)]
            mine = order[reader::num_readers] if whole_shards else order
            samples = self._share(self._read(mine), reader, 1 if whole_shards else num_readers)
            for sample in _shuffled(samples, random.Random(f"{self.transform.seed} {epoch} {reader}")):
                yield epoch, sample
            if self.num_read == before and next(self._read(order), None) is None:  # nor do other readers find any
                raise RestokError(f"the shards of split {self.split.name} hold no samples ({order[0]}, …)")

    def _read(self, urls: list[str]) -> Iterator[StreamedSample]:
        return read_shards(urls, self.split.class_names, self.split.max_member_bytes)

    def _share(self, samples: Iterator[StreamedSample], reader: int, parts: int) -> Iterator[StreamedSample]:
        """Every one of `parts` samples, counted on from epoch to epoch: so each reader gets some, however few exist."""
        for sample in samples:
            if self.num_read % parts == reader % parts:
                yield sample
            self.num_read += 1


def _shuffled(samples: Iterator[StreamedSample], rng: random.Random) -> Iterator[StreamedSample]:
    """The samples, each drawn at random from among those that wait: in the order of webdataset's shuffle filter.

    Until SHUFFLE_BUFFER wait, or SHUFFLE_BYTES, two are read for each that is drawn.
    """
    waiting: list[StreamedSample] = []
    num_bytes = 0

    def take(sample: StreamedSample) -> bool:
        """Whether there is room for more."""
        nonlocal num_bytes
        waiting.append(sample)
        num_bytes += sample.num_bytes
        return len(waiting) < SHUFFLE_BUFFER and num_bytes < SHUFFLE_BYTES

    def draw() -> StreamedSample:
        nonlocal num_bytes
        place = rng.randint(0, len(waiting) - 1)
        waiting[place], waiting[-1] = waiting[-1], waiting[place]
        num_bytes -= waiting[-1].num_bytes
        return waiting.pop()

    for sample in samples:
        if take(sample) and (another := next(samples, None)):
            take(another)
        if len(waiting) >= FIRST_DRAW:
            yield draw()
        while num_bytes >= SHUFFLE_BYTES:
            yield draw()
    while waiting:
        yield draw()


def streamed_evaluation_batches(
    split: StreamedSplit, image_size: tuple[int, int], batch_size: int, rank: int, world_size: int, limit: int | None
) -> Iterator[Batch]:
    """Every sample once, or the first `limit`, in the order of the shards, centre-cropped; the last batch may be
    shorter.

    Each of several processes reads all, and decodes every `world_size`-th batch.

    Raises RestokError where a shard or a sample cannot be read.
    """
    samples = islice(read_shards(split.urls, split.class_names, split.max_member_bytes), limit)
    for number in count():
        some = list(islice(samples, batch_size))
        if not some:
            return
        if number % world_size != rank:
            continue
        images = [
            to_tensor(center_crop(read_image(tars.contents(sample.data), sample.name, max_pixels=None), image_size))
            for sample in some
        ]
        yield Batch(torch.stack(images), torch.tensor([sample.class_id for sample in some]))


def read_shards(
    urls: list[str], class_names: list[str], max_member_bytes: int = MAX_MEMBER_BYTES
) -> Iterator[StreamedSample]:
    """The samples of the shards, one after the other. What would make them larger than `max_member_bytes` is not read.

    Raises RestokError where a shard cannot be fetched or ends early, and for a sample without one of the classes, or
    with one where the data set has none.
    """
    synsets = synset_ids(class_names)
    for url in urls:
        for key, files in _read_shard(url, max_member_bytes):
            name = f"sample {key} of {url}"
            class_id = _class_id(files, len(class_names), synsets, name)
            try:
                extension = tars.image_extension(files)
            except ImageError as error:
                yield StreamedSample(key, class_id, name, ImageError(f"{name}: {error}"))
                continue
            beside = tars.images_beside(files, extension)
            yield StreamedSample(key, class_id, f"{url}: {key}.{extension}", files[extension], beside)


def _class_id(files: Files, num_classes: int, synsets: dict[str, int], name: str) -> int:
    try:
        extension = tars.class_extension(files)
        class_id = tars.class_id_of(tars.contents(files[extension]), synsets) if extension else NO_CLASS
    except ImageError as error:
        raise RestokError(f"{name}: {error}") from error
    if class_id == NO_CLASS and num_classes:
        raise RestokError(
            f"{name}: its class is missing, but the data set has classes 0 to {num_classes - 1}; streamed, a sample's"
            " files must follow each other: make the shards again with `tar --sort=name`"
        )
    if class_id >= num_classes:
        has = f"classes 0 to {num_classes - 1}" if num_classes else "none"
        raise RestokError(
            f"{name}: its class is {class_id}, but the data set has {has}; describe it again by `restok prepare shards`"
            " with --num-classes or --class-names"
        )
    return class_id


def _read_shard(url: str, max_bytes: int) -> Iterator[tuple[str, Files]]:
    """Key and files of each sample. Raises RestokError where the shard cannot be read."""
    try:
        with closing(_open(url)) as stream, _ended_early(stream):
            yield from _samples(stream, url, max_bytes)
    except READ_ERRORS as error:
        raise RestokError(f"shard {url} cannot be read to its end ({_reason(error)})") from error


def _open(url: str) -> "BinaryIO | Pipe":
    """Start to fetch a shard; a shell command becomes a group of processes, which can be ended as a whole."""
    from webdataset.gopen import Pipe, gopen

    if not (command := shell_command(url)):
        return gopen(url)
    return Pipe(command, mode="rb", shell=True, bufsize=8192, ignore_status=[141], process_group=0)


@contextmanager
def _ended_early(stream: "BinaryIO | Pipe") -> Iterator[None]:
    """Where the block is left before all is read, end the program that fetches it, which may wait for ever."""
    from webdataset.gopen import Pipe

    if not isinstance(stream, Pipe):
        yield
        return
    process = stream.proc
    READERS.add(process)
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception):  # of which one says how the program ended
            stream.ignore_errors = True
            end_reader(process)
        raise
    finally:
        READERS.discard(process)


def _samples(stream: tars.Readable, url: str, max_bytes: int) -> Iterator[tuple[str, Files]]:
    """The samples of a tar, told as `group_samples` tells them, of files that follow each other."""
    key, files, left = "", {}, max_bytes
    for member, read in tars.read_members(stream, url):
        tars.refuse_no_file(member, url)
        name, extension = tars.split_name(readable(member.name))
        if not (member.isfile() and name):
            continue
        if name != key:
            if files:
                yield key, files
            key, files, left = name, {}, max_bytes
        if extension in files:
            raise RestokError(f"{url} holds the key {key} twice: keys must be unique; make the shard again")
        is_needed = tars.is_image(extension) or extension.rpartition(".")[2] == "cls"
        files[extension] = read(f"{url}: {name}.{extension}", left) if is_needed else b""
        left -= member.size if isinstance(files[extension], bytes) and is_needed else 0
    if files:
        yield key, files


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error.args[0] if error.args else error).split())  # webdataset adds arguments to errors
    if command := re.search(r": exit (-?\d+) ", text):
        return f"the command that fetches it ended with exit code {command[1]}"
    return text
