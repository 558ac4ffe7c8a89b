"""Facts of a model, as `restok models show` prints them."""

from typing import Any

from restok_cli.model.levels import level_sizes, step_sizes
from restok_cli.pretrained.checksums import check_file
from restok_cli.pretrained.folder import ModelFolder, fingerprint
from restok_cli.pretrained.modules import empty_model


def facts_of(folder: ModelFolder) -> dict[str, Any]:
    """Raises RestokError where the weights are damaged."""
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
