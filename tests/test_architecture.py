"""The house: imports only go down."""

import ast
from itertools import chain
from pathlib import Path

import restok_cli

ROOT = Path(restok_cli.__file__).parent

LOW = {"errors", "schema", "machine", "files", "locks", "threads", "processes", "console", "room"}
MODELS = {*LOW, "devices", "model", "weights", "settings", "data", "metrics", "pretrained"}
# Which rooms each room may import from; a file at the top is a room of its own.
ALLOWED = {
    "__main__": {"cli", "errors", "machine", "processes"},
    "errors": set(),
    "machine": {"errors"},
    "locks": {"errors"},
    "threads": set(),
    "files": {"errors", "locks"},
    "schema": {"errors", "files"},
    "processes": {"errors", "machine", "accelerator"},
    "accelerator": set(),
    "room": {"errors"},
    "console": {"errors", "files", "processes", "threads"},
    "assets": {*LOW, "data"},
    "devices": {"errors", "machine"},
    "weights": {"errors"},
    "model": {"errors", "schema", "machine", "room"},
    "cpu": {"errors", "machine", "model"},
    "settings": {*LOW, "model"},
    "data": LOW,
    "metrics": {*LOW, "weights", "data", "model"},
    "pretrained": {*LOW, "weights", "model", "cpu", "metrics"},
    "cuda": {"console", "model"},
    "planning": {*MODELS, "cpu", "cuda", "training", "inference"},
    "training": {*MODELS, "cuda"},
    "inference": {*MODELS, "cpu", "cuda"},
    "arguments": {"errors", "files", "devices", "machine", "data", "room", "threads"},
    "api": {*MODELS, "inference", "arguments"},
    "evaluation": MODELS,
    "reports": {*MODELS, "training"},
    "diagnosis": MODELS,
    "commands": {*MODELS, "accelerator", "planning", "training", "inference", "evaluation", "reports", "diagnosis"},
    "cli": {"errors", "files", "processes", "console", "room", "settings", "commands"},
}
WITHOUT_TORCH = {
    "errors.py",
    "machine.py",
    "locks.py",
    "threads.py",
    "files.py",
    "room.py",
    "console.py",
    "inference/generate_destination.py",
    "inference/sampling_options.py",
    "metrics/cache_folder.py",
    "metrics/table.py",
    "model/levels.py",
    "model/config.py",
    "model/guidance.py",
    "pretrained/folder.py",
    "pretrained/publishing.py",
    "pretrained/released.py",
    "settings/training.py",
    "settings/changes.py",
    "reports/report_inputs.py",
    "settings/launcher.py",
    "training/run_folder/existing_run.py",
}
HEAVY = {"torch", "torchvision", "timm", "torch_fidelity", "webdataset", "numpy", "PIL", "einops"}
HEAVY |= {"safetensors", "jinja2"}


def imported(file: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def room_of(path: str) -> str:
    return path.split("/")[0].removesuffix(".py")


def test_imports_only_go_down():
    wrong = []
    for file in ROOT.rglob("*.py"):
        path = file.relative_to(ROOT).as_posix()
        if path == "__init__.py":
            continue
        own = room_of(path)
        rooms = {name.split(".")[1] for name in imported(file) if name.startswith("restok_cli.")}
        wrong += [f"{path} imports {room}" for room in rooms - ALLOWED[own] - {own}]
    assert not wrong


def test_light_files_do_not_import_heavy_libraries():
    for path in WITHOUT_TORCH:
        assert not {name.split(".")[0] for name in imported(ROOT / path)} & HEAVY, path


def reached_without_torch(files: list[Path], room: str, top_level_only: bool = False) -> set[Path]:
    """The files of a room that these import, and what those import; none of them imports torch."""
    waiting, reached = list(files), set()
    while waiting:
        file = waiting.pop()
        reached.add(file)
        names = imported(file, top_level_only)
        assert not {name.split(".")[0] for name in names} & {"torch", "torchvision", "webdataset"}, file
        below = {ROOT.parent / f"{name.replace('.', '/')}.py" for name in names if name.startswith(room)}
        waiting += [file for file in below - reached if file.is_file()]
    return reached


def test_joining_and_comparing_results_reaches_no_torch():
    """They only read small files, so that they answer at once."""
    files = [ROOT / "evaluation/runs.py", ROOT / "metrics/compare.py"]
    assert ROOT / "metrics/protocol.py" in reached_without_torch(files, "restok_cli.", top_level_only=True)


def test_making_and_verifying_data_sets_reaches_no_torch():
    """Login nodes, where data are prepared, limit the memory: the import of torch alone fails on some."""
    sources = [*(ROOT / "data/sources").glob("*.py"), *(ROOT / "data/shards").glob("*verif*.py")]
    reached = reached_without_torch(sources, "restok_cli.data.")
    assert {ROOT / "data/image_files.py", ROOT / "data/arrays.py", ROOT / "data/shards/writer.py"} <= reached


def test_commands_import_heavy_libraries_only_inside_functions():
    light_files = tuple(path.removesuffix(".py").replace("/", ".") for path in WITHOUT_TORCH)
    light_rooms = {"errors", "machine", "files", "locks", "processes", "console", "room", "commands"}
    for file in [*(ROOT / "commands").rglob("*.py"), ROOT / "cli.py", ROOT / "processes.py"]:
        names = imported(file, top_level_only=True)
        assert not {name.split(".")[0] for name in names} & (HEAVY | {"pydantic"}), file
        own = {name.removeprefix("restok_cli.") for name in names if name.startswith("restok_cli.")}
        assert {name.split(".")[0] for name in own if not name.startswith(light_files)} <= light_rooms, file


def test_imports_stand_at_the_top_of_the_file():
    rooms = [list((ROOT / room).glob("*.py")) for room in ("inference", "evaluation")]
    assert all(rooms)
    for file in chain.from_iterable(rooms):
        assert imported(file) == imported(file, top_level_only=True), file


def test_closed_doors_of_the_model():
    assert not any("tokenizer" in name for name in imported(ROOT / "model/har.py"))
    for path in ("model/har.py", "model/sampling.py"):
        assert not any("quantizer" in name or "pixel_codec" in name for name in imported(ROOT / path))
    assert not any("optim" in name for name in imported(ROOT / "training/losses.py"))


def test_no_room_for_odds_and_ends():
    assert not [file for file in ROOT.rglob("*.py") if file.stem in {"utils", "common", "helpers"}]


def test_docstrings_begin_with_their_noun_or_verb():
    """Also the strings below fields, of which docs/configuration.md is made."""
    for file in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                assert not str(node.value.value).startswith(("What", "The same")), f"{file}:{node.lineno}"
