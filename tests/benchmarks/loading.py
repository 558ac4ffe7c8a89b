"""How much memory loading a model takes, as a ratio to its weights: 1 means that there is no second copy.

    python tests/benchmarks/loading.py

Writes a ResTok-L of random weights (2.6 GB) into a temporary folder and loads it in a fresh process.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from restok_cli.model.config import TokenizerConfig
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.planning.highest import field
from restok_cli.pretrained.folder import open_tokenizer
from restok_cli.pretrained.modules import load_model, save_released, save_tokenizer

RELEASED = TokenizerConfig(cnn_shortcut="output", merge="nearest", latent_layout="scrambled")


def load(folder: str) -> None:
    """In the fresh process: print the peak of memory above what importing everything took."""
    before = field("VmHWM")  # of this process alone: getrusage would start from its parent's
    tokenizer = load_model(open_tokenizer(Path(folder)), torch.device("cpu"))
    for parameter in tokenizer.parameters():
        parameter.sum()  # a file that is mapped counts only once it is read
    weights = sum(p.numel() * p.element_size() for p in tokenizer.parameters())
    print(json.dumps({"weights": weights, "peak": field("VmHWM") - before}))


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        tokenizer = Tokenizer(RELEASED)
        save_tokenizer(tokenizer, Path(temporary) / "restok")
        save_released(tokenizer, Path(temporary) / "released")
        del tokenizer
        for layout in ("restok", "released"):
            command = (sys.executable, __file__, str(Path(temporary) / layout))
            result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            weights, ratio = result["weights"] / 1e9, result["peak"] / result["weights"]
            print(f"{layout}: weights of {weights:.2f} GB, peak memory {ratio:.2f} of that")


if __name__ == "__main__":
    load(sys.argv[1]) if len(sys.argv) > 1 else main()
