"""What the tests share. Nothing here, and no test, needs a network or anything outside the repository."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import pytest

# of each process, here and in those that tests start: pytest has a worker on every core
os.environ["OMP_NUM_THREADS"] = os.environ.get("RESTOK_TEST_THREADS", "1")
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # what must be the same to the last bit is so on a CPU; see test_devices
import torch
from drawings import OPTIONS, pngs

from restok_cli.cli import run
from restok_cli.data.shards.dataset import open_dataset
from restok_cli.machine import round_alike
from restok_cli.model.config import HarConfig, TokenizerConfig
from restok_cli.model.har import Har
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained.folder import open_tokenizer
from restok_cli.pretrained.modules import save_har, save_tokenizer
from restok_cli.settings.presets import read_preset
from restok_cli.settings.training import TokenizerRunConfig

round_alike()  # as every restok command does first, before anything is multiplied

GOLDEN = Path(__file__).parent / "golden"


class Result(NamedTuple):
    code: int
    out: str
    err: str


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mutations", type=int, default=200, help="of each input, in test_mutations")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with many slow tests first, so that no worker is left alone with one of them at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """What commands keep for later, they keep here, also in processes that the tests start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        # code compiled for another set of instructions computes nonsense with this one's
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
        yield


@pytest.fixture
def restok(capsys) -> Callable[..., Result]:
    """Run a command line in this process: `restok("generate", "--model", folder)`."""

    def call(*arguments: object) -> Result:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    return call


@pytest.fixture
def fails(restok) -> Callable[..., str]:
    """Run a command line that must fail with one line on stderr and nothing on stdout; return that line."""

    def call(code: int, *arguments: object) -> str:
        result = restok(*arguments)
        assert result.code == code, result
        assert result.out == ""
        lines = [line for line in result.err.splitlines() if line.startswith("restok: ")]
        assert len(lines) == 1, result.err
        assert "Traceback" not in result.err
        return lines[0]

    return call


@pytest.fixture
def program():
    """Starts a process that runs some lines of Python."""
    started = []

    def start(lines: str) -> subprocess.Popen:
        command = (sys.executable, "-c", dedent(lines))
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def tiny_config() -> TokenizerConfig:
    return TokenizerRunConfig.parse(read_preset("tokenizer", "tiny"), "tiny").model


@pytest.fixture
def tiny_tokenizer(tiny_config) -> Tokenizer:
    torch.manual_seed(0)
    return Tokenizer(tiny_config).eval()


def make_har(config: HarConfig) -> Har:
    """A generator whose head is not zero, as it is at the start of training, so that its logits differ."""
    torch.manual_seed(0)
    har = Har(config).eval()
    torch.nn.init.normal_(har.head.weight)
    return har


@pytest.fixture
def tiny_har() -> Har:
    return make_har(HarConfig(codebook_size=64, num_codes=32, num_classes=98, width=32, num_layers=2, num_heads=2))


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory, tiny_config) -> Path:
    """A folder with `tokenizer`, `har` (which draws its codes, of 98 classes) and `other`, another tokenizer."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    tokenizer = Tokenizer(tiny_config).eval()
    save_tokenizer(tokenizer, folder / "tokenizer")
    har = make_har(HarConfig(codebook_size=64, num_codes=32, num_classes=98, width=32, num_layers=2, num_heads=2))
    save_har(har, open_tokenizer(folder / "tokenizer"), open_dataset("sample").class_names, folder / "har")
    tokenizer.quantizer.codebook.data += 1
    save_tokenizer(tokenizer, folder / "other")
    return folder


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> Path:
    """A folder with `tokenizer` and `har`, as training_runs says, trained without interruption."""
    from training_runs import train_both  # which takes a second that few tests need

    return train_both(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def sample_data():
    return open_dataset("sample")


@pytest.fixture
def generate(restok, tiny_models, tmp_path, monkeypatch):
    """Run `generate` with OPTIONS and more, in a folder of its own; it must not fail."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        result = restok("generate", "--model", tiny_models / "har", *OPTIONS, *arguments)
        assert result.code == 0, result.err
        return result

    return call


@pytest.fixture(scope="session")
def drawn(tiny_models, tmp_path_factory) -> Path:
    """What `generate` makes with OPTIONS."""
    folder = tmp_path_factory.mktemp("drawn") / "expected"
    options = ("--model", tiny_models / "har", *OPTIONS, "-o", folder, "--batch-size", 4)
    assert run(["generate", *map(str, options)]) == 0
    return folder


@pytest.fixture
def expected(drawn, tmp_path) -> dict[str, bytes]:
    """The images of `drawn`, of which the test has a copy in `expected`."""
    shutil.copytree(drawn, tmp_path / "expected")
    return pngs(drawn)
