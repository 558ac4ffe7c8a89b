"""`restok models`: what there is, what a folder holds, the way between layouts, model cards, and the way to the hub."""

import json
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from restok_cli.commands.options import LinesAsJson, Overwrite, parse_model
from restok_cli.commands.presets import presets
from restok_cli.console import counted, note, say
from restok_cli.errors import RestokError, UsageError
from restok_cli.files import BUNDLED

if TYPE_CHECKING:
    from restok_cli.model.har import Har
    from restok_cli.model.tokenizer import Tokenizer
    from restok_cli.pretrained.folder import Describe, ModelFolder, TokenizerFolder

app = typer.Typer(
    invoke_without_command=True,
    help="""List presets and models; show, verify, convert, describe or publish one.

    Wherever a command takes a model, it takes a folder that restok wrote, one in
    the layout that the authors of the paper released, hf:owner/name[@revision] on
    the Hugging Face hub, or one of those that come with restok: sample, a
    generator of emoji with its tokenizer, and photo, a tokenizer of photographs.
    (A folder called sample is ./sample.)

    Examples:

      restok models
      restok models presets
      restok models show runs/tokenizer
      restok models verify runs/har
      restok models convert runs/har har-released
      restok models card runs/har --metrics result.json --licence mit
      restok models push runs/har owner/name --dry-run
    """,
)


class HubModel(NamedTuple):
    name: str
    kind: str
    parameters: str
    licence: str
    reported: str  # by its authors


HUB_MODELS = (
    HubModel("hf:xushu-me/restok_l_128.r256_in1k", "tokenizer", "662 M", "Apache-2.0", "rFID 1.28 with 128 tokens"),
    HubModel("hf:xushu-me/llamagen_l_c2i_restok_l_128.r256_in1k", "har", "326 M", "Apache-2.0", "gFID 2.34 in 9 steps"),
)

ModelArgument = Annotated[
    Path,
    typer.Argument(
        parser=parse_model,
        metavar="M",
        help="A model folder, a run, hf:owner/name, or one that comes with restok: sample, photo.",
        show_default=False,
    ),
]
LocalModel = Annotated[
    Path,
    typer.Argument(parser=parse_model, metavar="M", help="A model folder, a run, sample or photo.", show_default=False),
]
Metrics = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="What `restok evaluate --json` said of the model, for the card; repeatable.",
    ),
]
Licence = Annotated[
    str | None,
    typer.Option(
        *("--licence", "--license"), metavar="NAME", help="Of the model, for the card, as the hub writes it: mit, …"
    ),
]


@app.callback()
def models(context: typer.Context, as_json: LinesAsJson = False) -> None:
    if context.invoked_subcommand is not None:
        return
    from restok_cli.settings.presets import preset_names

    names = {"tokenizer": preset_names("tokenizer"), "har": preset_names("har")}
    if as_json:
        print(json.dumps({"presets": names, "hub": [model._asdict() for model in HUB_MODELS]}))
        return
    say(f"presets of train-tokenizer: {', '.join(names['tokenizer'])}")
    say(f"presets of train-har: {', '.join(names['har'])}")
    for model in HUB_MODELS:
        say(f"{model.name}: {model.kind}, {model.parameters}, {model.licence}, its authors report {model.reported}")


app.command()(presets)


@app.command()
def show(model: ModelArgument, as_json: LinesAsJson = False) -> None:
    """Say what a model is: config, parameters, levels, fingerprint.

    Example:

      restok models show runs/har
    """
    facts = describe(open_any(model))
    if as_json:
        print(json.dumps(facts))
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            say(f"{name}:")
            for key, entry in value.items():
                say(f"  {key}: {entry:,}" if name == "parameters" else f"  {key}: {entry}")
        else:
            say(f"{name}: {value}")


@app.command()
def verify(
    models: Annotated[
        list[Path],
        typer.Argument(
            parser=parse_model,
            metavar="M…",
            help="Model folders, runs, hf:owner/name, sample or photo.",
            show_default=False,
        ),
    ],
    as_json: LinesAsJson = False,
) -> None:
    """Read models from end to end: are they what was written?

    Config and weights are compared with checksums.json, which restok writes into
    every model folder, or with the digests that the hub publishes. What has
    neither, from an older restok or somebody else, is loaded to see that it
    fits, and named with its SHA-256. The exit code is 1 where there are
    problems, and where a file has no digest.

    Example:

      restok models verify runs/tokenizer runs/har
    """
    from restok_cli.files import file_sha256
    from restok_cli.pretrained.folder import find_model
    from restok_cli.pretrained.integrity import verify_model

    found = {model: verify_model(find_model(model, "tokenizer")) for model in models}
    problems = [file for files in found.values() for file in files if file.problem]
    without = [file.path for files in found.values() for file in files if not (file.digest or file.problem)]
    if as_json:
        rows = [
            {"path": str(model), "files": [file._asdict() | {"path": str(file.path)} for file in files]}
            for model, files in found.items()
        ]
        print(json.dumps({"models": rows}))
    else:
        for path, _, problem in problems:
            print(f"{path}: {problem}")
        for model, files in found.items():
            if all(file.digest and not file.problem for file in files):
                print(f"{model} is as it was written")
    for path in without:
        note(f"{path} has no digest; it can be read, and fits the rest (SHA-256 {file_sha256(path)})")
    if problems:
        raise RestokError(f"{counted(len(problems), 'problem')} found; copy or make the models again")
    if without:
        raise RestokError(
            f"{counted(len(without), 'file')} could not be compared; whoever made them may tell the SHA-256"
        )


@app.command()
def convert(
    model: ModelArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.", show_default=False)],
    overwrite: Overwrite = False,
) -> None:
    """Write a model in the other layout: released from ours, ours from released. Prints OUT.

    A generator's own tokenizer is not converted with it: give its folder,
    M/tokenizer. The released layout knows tokenizers of three sizes only, with
    its own merging and latent layout. No restok command needs this: all of them
    read both layouts.

    Example:

      restok models convert runs/har har-released
    """
    import torch

    from restok_cli.pretrained.folder import MODEL_FILES, load_model, save_released

    folder = open_to_rewrite(model, out, overwrite, MODEL_FILES)
    module = load_model(folder, torch.device("cpu"))
    if folder.is_released:
        save_anew(module, None, folder, out)
    else:
        save_released(module, out, card_writer(folder))
    print(out)


@app.command()
def halve(
    model: LocalModel,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.", show_default=False)],
    overwrite: Overwrite = False,
) -> None:
    """Write a model with its weights rounded to 16 bits: half the bytes. Prints OUT.

    It still computes in float32, with other codes now and then: to draw with it,
    halve a tokenizer first, and train the generator on the codes of that one. A
    generator's own tokenizer is copied as it is.

    Example:

      restok models halve runs/tokenizer tokenizer
    """
    import torch

    from restok_cli.pretrained.folder import ALL_FILES, TOKENIZER_FOLDER, load_model, open_tokenizer

    folder = open_to_rewrite(model, out, overwrite, ALL_FILES)
    if folder.is_released:
        raise UsageError(f"{model} has the released layout; bring it into ours first: restok models convert {model} …")
    has_tokenizer = (folder.path / TOKENIZER_FOLDER).is_dir()
    module = load_model(folder, torch.device("cpu")).half()
    save_anew(module, open_tokenizer(folder.path) if has_tokenizer else None, folder, out)
    print(out)


@app.command()
def card(
    model: LocalModel,
    metrics: Metrics = None,
    licence: Licence = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a README.md that restok did not write, or that was edited.")
    ] = False,
) -> None:
    """Write the card of a model, its README.md, with metrics and licence. Prints it.

    Training writes one with what it knows. What is given here goes in the place
    of what was given before; the rest stays. An edited card is replaced only by
    --overwrite: finish it by hand after this command, not before.

    Example:

      restok models card runs/har --metrics result.json --licence mit
    """
    from restok_cli.files import write_text
    from restok_cli.pretrained.card import card_text, is_untouched, record_text
    from restok_cli.pretrained.folder import CARD_FILE, RECORD_FILE
    from restok_cli.pretrained.publishing import described

    for name, bundled in BUNDLED.items():
        if model == bundled:
            raise UsageError(
                f"{name} is a part of restok, which stays as it is; copy it first: restok models halve {name} M"
            )
    folder = open_local(model)
    record = described(folder, metrics or [], licence)
    path = folder.path / CARD_FILE
    if not overwrite and not is_untouched(folder):
        raise UsageError(f"{path} is not as this restok would have written it; give --overwrite to replace it")
    text = card_text(folder, record)
    # the record last: a card beside an older record looks edited, and is left alone, but none is lost
    for file, content in ((path, text), (folder.path / RECORD_FILE, record_text(record))):
        write_text(file, content)
    print(path)


@app.command()
def push(
    model: LocalModel,
    name: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The model's name on the hub.", show_default=False)],
    metrics: Metrics = None,
    licence: Licence = None,
    private: Annotated[bool, typer.Option("--private", help="Let nobody else see it, where it is new.")] = False,
    revision: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="The branch to put it on. Default: the hub's, main.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would go, and send nothing.")] = False,
) -> None:
    """Publish a model on the Hugging Face hub, with its card and a generator's tokenizer. Prints its address.

    Only the files of the model go, in one commit, and nothing in M changes. Files
    there that are called as a model's are, and that this one lacks, are deleted,
    and named; others stay. All commands take the model from there as
    hf:OWNER/NAME. `hf auth login` says who you are; HF_ENDPOINT names a mirror.
    An edited card goes as it is.

    Examples:

      restok models push runs/har owner/name --dry-run
      restok models push runs/har owner/name --metrics result.json --licence mit
    """
    from restok_cli.pretrained.hub import check_name, upload
    from restok_cli.pretrained.publishing import described, to_publish

    check_name(name)
    folder = open_local(model)
    files = to_publish(folder, name, described(folder, metrics or [], licence))
    if dry_run:
        for path, content in files.items():
            size = len(content) if isinstance(content, bytes) else content.stat().st_size
            say(f"{path}  {size:,} bytes")
        return
    print(upload(files, name, revision, private, f"Upload {folder.kind} with restok {version('restok')}"))


def open_to_rewrite(model: Path, out: Path, overwrite: bool, files: tuple[str, ...]) -> "ModelFolder":
    """The model that is to be written anew to `out`, a folder which may then have `files`.

    Raises UsageError where there is none, or `out` holds what may not be replaced.
    """
    from restok_cli.files import check_apart, check_output_folder
    from restok_cli.pretrained.folder import CONFIG_FILE

    # a README.md is a model's only beside its config
    check_output_folder(out, overwrite, (files if (out / CONFIG_FILE).is_file() else ()).__contains__)
    check_apart(out, model)
    return open_any(model)


def save_anew(module: "Tokenizer | Har", tokenizer: "TokenizerFolder | None", folder: "ModelFolder", out: Path) -> None:
    """Write what was made of the model in `folder` in restok's layout, with a generator's tokenizer if it is known."""
    from restok_cli.model.har import Har
    from restok_cli.model.tokenizer import Tokenizer
    from restok_cli.pretrained.folder import HarFolder, save_har, save_tokenizer

    match module, folder:
        case Tokenizer(), _:
            save_tokenizer(module, out, card_writer(folder))
        case Har(), HarFolder():
            save_har(module, tokenizer, folder.class_names, out, card_writer(folder))


def card_writer(folder: "ModelFolder") -> "Describe":
    """A function that writes the card of a model that was made of the one in `folder`."""
    from restok_cli.pretrained.card import read_record, write_card

    return partial(write_card, record=read_record(folder.path))


def open_local(path: Path) -> "ModelFolder":
    """The model in the folder `path`. Raises UsageError where there is none, or it is on the hub."""
    from restok_cli.pretrained.folder import HUB_PREFIX

    if str(path).startswith(HUB_PREFIX):
        raise UsageError(f"{path} is on the hub already; give a folder on this machine")
    return open_any(path)


def open_any(path: Path) -> "ModelFolder":
    """The model at `path`, of either kind. Raises UsageError where there is none."""
    from restok_cli.pretrained.folder import find_model, open_model

    return open_model(find_model(path, "tokenizer"))


def describe(folder: "ModelFolder") -> dict:
    """The facts that `restok models show` prints."""
    from restok_cli.model.levels import level_sizes, step_sizes
    from restok_cli.pretrained.checksums import check_file
    from restok_cli.pretrained.folder import empty_model, fingerprint

    module = empty_model(folder.config)
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in module.named_children()}
    parts |= {name: p.numel() for name, p in module.named_parameters(recurse=False)}
    parts = {name: count for name, count in parts.items() if count}
    facts: dict[str, Any] = {
        "path": str(folder.path),
        "kind": folder.kind,
        "layout": "released" if folder.is_released else "restok",
    }
    if folder.kind == "tokenizer":
        facts["levels"] = level_sizes(folder.config.num_latent_tokens)
    else:
        sizes = step_sizes(folder.config.num_codes, folder.config.num_sequential_codes)
        facts |= {"steps": len(sizes), "codes_by_step": sizes, "classes": folder.config.num_classes}
        facts["tokenizer_fingerprint"] = folder.tokenizer_fingerprint
    check_file(folder.weights_file)
    facts |= {"fingerprint": fingerprint(folder), "parameters": parts | {"all": sum(parts.values())}}
    return facts | {"config": folder.config.model_dump()}
