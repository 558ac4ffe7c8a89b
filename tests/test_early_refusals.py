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
    "train-tokenizer sample -o full": "full already holds files",
    "train-tokenizer sample -o run --resume": "run holds no run to resume",
    "train-tokenizer sample --init full -o run": "full is not a model: it holds no config.json",
    "train-tokenizer sample -o run --device cdua": "--device cdua: no such device",
    "train-har sample --tokenizer nowhere -o run": "nowhere: no such folder; give a model folder",
    "train-har nowhere --tokenizer sample -o run": "nowhere: no such file or folder; give a data set, or what",
    "train-har images --tokenizer sample -o run": "images is not a data set",
    "train-har sample --tokenizer sample -o full": "full already holds files",
    "train-har sample --tokenizer sample --init photo -o run": "holds a tokenizer, but a generator is needed",
    "train-har sample --tokenizer sample --image-size 32 -o run": "--image-size 32x32: the tokenizer",
    "prepare folder nowhere out": "nowhere: no such folder",
    "prepare codes nowhere out --tokenizer sample": "nowhere: no such data set",
    "prepare codes sample out --tokenizer nowhere": "nowhere: no such folder; give a model folder",
    "prepare codes sample out --tokenizer sample --views all": "'all' is not one of",
    "prepare codes sample out --tokenizer full": "full is not a model",
    "generate --model nowhere": "nowhere: no such folder; give a model folder",
    "generate --preset nowhere": "--preset nowhere: no such preset, nor a file",
    "generate --top-p 3": "--top-p",
    "generate --cfg-schedule lin": "'lin' is not one of",
    "generate --dtype int3": "'int3' is not one of",
    "generate --batch-size few": "few",
    "generate --model full": "full is not a model: it holds no config.json; `restok train-har`",
    "generate --model photo": "holds a tokenizer, but a generator is needed",
    "generate --tokenizer full": "full is not a model",
    "generate --steps 99": "--steps 99: this model takes 1 to 9 steps",
    "generate --class zebra": "--class zebra: no such class",
    "generate -o full": "full already holds files",
    "generate -o there.npz": "there.npz already exists",
    "generate --codes -o codes.txt": "codes.txt: codes go to a file that ends in",
    "generate --shards -o -": "--shards need a folder",
    "generate --grid grid.txt": "--grid grid.txt: give a file name that ends in .png",
    "generate --like nowhere.png --keep 3": "--like nowhere.png: no such file or folder; give an image file",
    "generate --device cuda:one": "--device cuda:one: no such device",
    "encode nowhere.png": "nowhere.png: no such file or folder; give images",
    "encode images -o codes.txt": "codes.txt",
    "encode images -o there.npz": "there.npz already exists",
    "encode images --model full": "full is not a model",
    "decode nowhere.npz": "nowhere.npz: no such file or folder; give a file of codes",
    "decode --mix images nowhere.png --keep 1": "--mix nowhere.png: no such file or folder; give an image",
    "decode there.npz -o full": "full already holds files",
    "reconstruct nowhere": "nowhere: no such file or folder; give images",
    "reconstruct images -o images": "images already holds files",
    "reconstruct images --num-codes many": "--num-codes many",
    "reconstruct images --grid grid.txt": "--grid grid.txt: give a file name that ends in .png",
    "evaluate nowhere --metric is": "nowhere: no such file or folder; give a folder of images or tars",
    "evaluate images --metric fidd": "unknown metric fidd",
    "evaluate images --metric is --inception-weights nowhere": "'nowhere' does not exist",
    "evaluate --make-reference nowhere -o r.npz": "nowhere: no such file or folder",
    "evaluate images --reference nowhere": "--reference nowhere: no such file, folder or name",
    "evaluate images --reference nowhere.npz": "--reference nowhere.npz: no such file or folder",
    "evaluate images --metric codebook --model full": "full is not a model",
    "evaluate images --metric is --device cpu:1": "--device cpu:1: there is one cpu",
    "tune nowhere": "nowhere: no such folder; give a model folder",
    "tune --metric fidd": "--metric fidd",
    "tune --try cfg_scale=x": "cfg_scale",
    "tune full": "full is not a model",
    "tune --metric is --reference sample": "is compares with nothing",
    "tune --reference nowhere": "--reference nowhere: no such file, folder or name",
    "tune --steps 99": "--steps 99: this model takes 1 to 9 steps",
    "tune -o full": "full already holds files",
    "probe nowhere sample": "nowhere: no such folder; give a model folder",
    "probe sample nowhere": "nowhere: no such data set",
    "probe full sample": "full is not a model",
    "bench --model nowhere": "nowhere: no such folder; give a model folder",
    "bench --what drawing": "drawing",
    "bench --preset tny": "no preset named tny",
    "curves nowhere -o c.png": "nowhere holds no metrics.jsonl",
    "models show nowhere": "nowhere: no such folder; give a model folder",
    "models convert full out": "full is not a model",
    "models verify nowhere": "nowhere: no such folder; give a model folder",
    "models presets tny": "no preset named tny",
    "config suggest nowhere": "nowhere: no such data set",
    "report nowhere": "nowhere: no such folder",
    "report full": "full is no run: it has no config.yaml",
    "report run-a -o there.npz": "-o there.npz: give a file name that ends in .html",
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
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_bytes(b"")
    (tmp_path / "run-a").mkdir()
    (tmp_path / "run-a" / "config.yaml").write_bytes(b"")
    command, lines = (sys.executable, "-c", WITHOUT_TORCH), json.dumps([*REFUSED])
    result = subprocess.run(command, cwd=tmp_path, input=lines, capture_output=True, text=True)
    said = json.loads(result.stdout)
    wrong = [said[line] for line, message in REFUSED.items() if said[line][0] != 2 or message not in said[line][1]]
    assert wrong == [], result.stderr
