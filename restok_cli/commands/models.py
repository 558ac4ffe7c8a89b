"""`restok models`: what there is, what a folder holds, the way between layouts, model cards, and the way to the hub."""

import json
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from restok_cli.commands.options import LinesAsJson, Overwrite, check_models, parse_model
from restok_cli.commands.presets import presets
from restok_cli.console import counted, note, say
from restok_cli.errors import RestokError, UsageError

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
        if as_json:
            raise UsageError(f"--json before {context.invoked_subcommand} is of the list of models; give it after that")
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
    check_models("any", model)
    from restok_cli.pretrained.facts import facts_of
    from restok_cli.pretrained.folder import open_any

    facts = facts_of(open_any(model))
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
            metavar="M",
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

    folders = {model: find_model(model) for model in models}
    from restok_cli.pretrained.integrity import verify_model

    found = {model: verify_model(folder) for model, folder in folders.items()}
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
    check_models("any", model)
    from restok_cli.pretrained.rewriting import convert_model

    convert_model(model, out, overwrite)
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
    check_models("any", model)
    from restok_cli.pretrained.rewriting import halve_model

    halve_model(model, out, overwrite)
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
    check_models("any", model)
    from restok_cli.pretrained.publishing import rewrite_card

    print(rewrite_card(model, metrics or [], licence, overwrite))


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

    check_name(name)
    check_models("any", model)
    from restok_cli.pretrained.publishing import open_local, to_publish

    folder = open_local(model)
    files = to_publish(folder, name, metrics or [], licence)
    if dry_run:
        for path, content in files.items():
            size = len(content) if isinstance(content, bytes) else content.stat().st_size
            say(f"{path}  {size:,} bytes")
        return
    print(upload(files, name, revision, private, folder.kind))
