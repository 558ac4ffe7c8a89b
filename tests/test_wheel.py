"""What people install: the wheel, made from the sdist, in a place that has never seen the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "__pycache__", "*.egg-info", ".*_cache", "build", "dist")
SECONDS = 600

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the sdist of a copy of the checkout, and the wheel that is made from it."""
    folder = tmp_path_factory.mktemp("build")
    shutil.copytree(ROOT, folder / "source", ignore=LEFT_OUT)
    command = (sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", folder / "source")
    subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
    return folder / "dist"


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory) -> Path:
    """A virtual environment with the wheel, and with the libraries of this one."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    site_packages = next(folder.glob("lib/python*/site-packages"))
    here = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    (site_packages / "libraries.pth").write_text("\n".join(here), encoding="utf-8")
    # --ignore-installed: else pip is content with the restok that it sees among the libraries
    install = ("install", "--no-deps", "--no-index", "--quiet", "--ignore-installed", next(built.glob("*.whl")))
    subprocess.run((sys.executable, "-m", "pip", "--python", python, *install), check=True, timeout=SECONDS)
    return folder


def run(installed: Path, *arguments: object) -> str:
    """What the installed restok prints, far from the checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = (installed / "bin" / "restok", *arguments)
    folder = installed.parent
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert result.returncode == 0, result.stderr
    return result.stdout


def files_below(folder: Path) -> set[str]:
    """Those that git would keep, with slashes."""
    files = (file.relative_to(ROOT) for file in folder.rglob("*") if file.is_file())
    return {file.as_posix() for file in files if "__pycache__" not in file.parts}


def test_sdist_holds_the_package_and_all_that_its_tests_need_but_weights_that_are_too_large(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    weights = files_below(ROOT / "tests" / "golden" / "weights")
    tests = files_below(ROOT / "tests") - weights
    assert files_below(ROOT / "restok_cli") | tests | files_below(ROOT / "completions") <= names
    assert weights and not weights & names
    assert {"README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml"} <= names


def test_wheel_holds_the_package_with_its_data_and_nothing_else(built):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    assert {name for name in names if name.startswith("restok_cli/")} == files_below(ROOT / "restok_cli")
    tops = {name.partition("/")[0] for name in names}
    assert len(tops) == 3 and all(top == "restok_cli" or top.endswith((".dist-info", ".data")) for top in tops)


def test_installed_completions_lie_where_shells_look(installed):
    for name, place in {
        "restok.bash": "share/bash-completion/completions",
        "_restok": "share/zsh/site-functions",
        "restok.fish": "share/fish/vendor_completions.d",
        "restok.ps1": "share/restok",
    }.items():
        assert (installed / place / name).read_bytes() == (ROOT / "completions" / name).read_bytes()


def test_installed_restok_works_outside_the_checkout(installed):
    assert run(installed, "--version").startswith("restok 0.")
    assert "codebook_size" in run(installed, "config", "show", "sample", "--kind", "tokenizer")
    assert "restok-l-128" in run(installed, "models")
    run(installed, "prepare", "sample", "emoji")
    assert (installed.parent / "emoji" / "dataset.json").is_file()
    python = (installed / "bin" / "python", "-c", "import restok_cli; print(restok_cli.__file__)")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    where = subprocess.run(python, env=environment, cwd=installed, capture_output=True, text=True, check=True).stdout
    assert Path(where.strip()).is_relative_to(installed)
