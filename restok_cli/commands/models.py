"""`restok models`: what there is, what a folder holds, and the way between our layout and the released one."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from restok_cli.commands.options import AsJson, Overwrite

if TYPE_CHECKING:
    from restok_cli.model.checkpoint import ModelFolder

app = typer.Typer(
    invoke_without_command=True,
    help="""List presets and released models; look into a model; convert it.

    Wherever a command takes a model, it takes a folder that restok wrote, a folder
    in the layout that the authors of the paper released, or hf:owner/name[@revision]
    on the Hugging Face hub.

    Examples:

      restok models
      restok models show runs/tokenizer
      restok models convert runs/har har-released
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
    Path, typer.Argument(metavar="M", help="A model folder, a run, or hf:owner/name.", show_default=False)
]


@app.callback()
def models(context: typer.Context, as_json: AsJson = False) -> None:
    if context.invoked_subcommand is not None:
        return
    from restok_cli.training.config import preset_names

    presets = {"tokenizer": preset_names("tokenizer"), "har": preset_names("har")}
    if as_json:
        print(json.dumps({"presets": presets, "hub": [model._asdict() for model in HUB_MODELS]}))
        return
    print(f"presets of train-tokenizer: {', '.join(presets['tokenizer'])}")
    print(f"presets of train-har: {', '.join(presets['har'])}")
    for model in HUB_MODELS:
        print(f"{model.name}: {model.kind}, {model.parameters}, {model.licence}, its authors report {model.reported}")


@app.command()
def show(model: ModelArgument, as_json: AsJson = False) -> None:
    """Say what a model is: its config, its parameters by part, levels, steps and fingerprint.

    Example:

      restok models show runs/har
    """
    facts = describe(open_any(model))
    if as_json:
        print(json.dumps(facts))
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            print(f"{name}:")
            for key, entry in value.items():
                print(f"  {key}: {entry:,}" if name == "parameters" else f"  {key}: {entry}")
        else:
            print(f"{name}: {value}")


@app.command()
def convert(
    model: ModelArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.", show_default=False)],
    overwrite: Overwrite = False,
) -> None:
    """Write a model in the other layout: released from ours, ours from released. Prints OUT.

    A generator's own tokenizer is not converted with it: give its folder, M/tokenizer.
    The released layout knows tokenizers of three sizes only, with its own merging and
    latent layout. No restok command needs this: all of them read both layouts.

    Example:

      restok models convert runs/har har-released
    """
    import torch

    from restok_cli.files import check_apart, check_output_folder
    from restok_cli.model.checkpoint import MODEL_FILES, load_model, save_har, save_released, save_tokenizer

    check_output_folder(out, overwrite, MODEL_FILES.__contains__)
    check_apart(out, model)
    folder = open_any(model)
    module = load_model(folder, torch.device("cpu"))
    if not folder.is_released:
        save_released(module, out)
    elif folder.kind == "tokenizer":
        save_tokenizer(module, out)
    else:
        save_har(module, None, folder.class_names, out)
    print(out)


def open_any(path: Path) -> "ModelFolder":
    """The model at `path`, of either kind. Raises UsageError where there is none."""
    from restok_cli.model.checkpoint import find_model, open_model

    return open_model(find_model(path, "tokenizer"))


def describe(folder: "ModelFolder") -> dict:
    """The facts that `restok models show` prints."""
    import torch

    from restok_cli.model.checkpoint import fingerprint
    from restok_cli.model.har import Har
    from restok_cli.model.levels import level_sizes, step_sizes
    from restok_cli.model.tokenizer import Tokenizer

    with torch.device("meta"):
        module = Tokenizer(folder.config) if folder.kind == "tokenizer" else Har(folder.config)
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in module.named_children()}
    parts |= {name: p.numel() for name, p in module.named_parameters(recurse=False)}
    parts = {name: count for name, count in parts.items() if count}
    facts = {"path": str(folder.path), "kind": folder.kind, "layout": "released" if folder.is_released else "restok"}
    if folder.kind == "tokenizer":
        facts["levels"] = level_sizes(folder.config.num_latent_tokens)
    else:
        sizes = step_sizes(folder.config.num_codes, folder.config.num_sequential_codes)
        facts |= {"steps": len(sizes), "codes_by_step": sizes, "classes": folder.config.num_classes}
        facts["tokenizer_fingerprint"] = folder.tokenizer_fingerprint
    facts |= {"fingerprint": fingerprint(folder), "parameters": parts | {"all": sum(parts.values())}}
    return facts | {"config": folder.config.model_dump()}
