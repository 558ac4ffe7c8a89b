"""What is known at once is refused at once: before torch is imported, which takes seconds."""

import json
import subprocess
import sys

REFUSED = {
    "train-tokenizer nowhere -o run": "nowhere: no such data set",
    "train-tokenizer images -o run": "images is not a data set",
    "train-tokenizer sample --preset tny -o run": "no preset named tny",
    "train-tokenizer sample --init nowhere -o run": "nowhere: no such folder; give a model folder",
    "train-tokenizer sample --set schedule.max_stepps=1 -o run": "max_stepps",
    "train-har sample --tokenizer nowhere -o run": "nowhere: no such folder; give a model folder",
    "train-har nowhere --tokenizer sample -o run": "nowhere: no such file or folder; give a data set, or what",
    "prepare folder nowhere out": "nowhere: no such folder",
    "prepare codes nowhere out --tokenizer sample": "nowhere: no such data set",
    "prepare codes sample out --tokenizer nowhere": "nowhere: no such folder; give a model folder",
    "prepare codes sample out --tokenizer sample --views all": "'all' is not one of",
    "generate --model nowhere": "nowhere: no such folder; give a model folder",
    "generate --preset nowhere": "--preset nowhere: no such preset, nor a file",
    "generate --top-p 3": "--top-p",
    "generate --cfg-schedule lin": "'lin' is not one of",
    "generate --dtype int3": "'int3' is not one of",
    "generate --batch-size few": "few",
    "encode nowhere.png": "nowhere.png: no such file or folder; give images",
    "encode images -o codes.txt": "codes.txt",
    "encode images -o there.npz": "there.npz already exists",
    "decode nowhere.npz": "nowhere.npz: no such file or folder; give a file of codes",
    "decode --mix images nowhere.png --keep 1": "--mix nowhere.png: no such file or folder; give an image",
    "reconstruct nowhere": "nowhere: no such file or folder; give images",
    "reconstruct images -o images": "images already holds files",
    "reconstruct images --num-codes many": "--num-codes many",
    "reconstruct images --grid grid.txt": "--grid grid.txt: give a file name that ends in .png",
    "evaluate nowhere --metric is": "nowhere: no such file or folder; give a folder of images or tars",
    "evaluate images --metric fidd": "unknown metric fidd",
    "evaluate images --metric is --inception-weights nowhere": "'nowhere' does not exist",
    "evaluate --make-reference nowhere -o r.npz": "nowhere: no such file or folder",
    "tune nowhere": "nowhere: no such folder; give a model folder",
    "tune --metric fidd": "--metric fidd",
    "tune --try cfg_scale=x": "cfg_scale",
    "probe nowhere sample": "nowhere: no such folder; give a model folder",
    "probe sample nowhere": "nowhere: no such data set",
    "bench --model nowhere": "nowhere: no such folder; give a model folder",
    "bench --what drawing": "drawing",
    "curves nowhere -o c.png": "nowhere holds no metrics.jsonl",
    "models show nowhere": "nowhere: no such folder; give a model folder",
}
WITHOUT_TORCH = """
import contextlib, io, json, sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise SystemExit("torch is imported")
sys.meta_path.insert(0, NoTorch())
from restok_cli.cli import run
said = {}
for line in json.load(sys.stdin):
    with contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            code = run(line.split())
        except SystemExit as error:
            code = str(error)
    said[line] = code, err.getvalue()
print(json.dumps(said))
"""


def test_wrong_words_and_missing_files_are_refused_without_torch(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"")
    (tmp_path / "there.npz").write_bytes(b"")
    command, lines = (sys.executable, "-c", WITHOUT_TORCH), json.dumps([*REFUSED])
    result = subprocess.run(command, cwd=tmp_path, input=lines, capture_output=True, text=True)
    said = json.loads(result.stdout)
    wrong = [said[line] for line, message in REFUSED.items() if said[line][0] != 2 or message not in said[line][1]]
    assert wrong == []
