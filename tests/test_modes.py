"""Who may read what restok writes is for the umask to say."""

import os

import pytest
from pictures import write_pictures

WRITERS = (  # of every kind of file, in the order in which they can run
    "prepare folder emoji data",
    "prepare shards data/train-000000.tar described",
    "models halve TINY/har half",
    "models card half --licence mit",
    "prepare codes data codes --tokenizer TINY/tokenizer --views centre",
    "train-tokenizer data --preset tiny --max-steps 2 --batch-size 2 --set optimizer.warmup_steps=1 -o run",
    "generate --model TINY/har --count 2 -o pictures --grid grid.png --ladder ladder.png",
    "generate --model TINY/har --count 2 -o pictures.npz",
    "generate --model TINY/har --count 2 -o drawn --shards",
    "generate --model TINY/har --count 2 -o codes.npz --codes",
    "generate --model TINY/har --count 2 -o codes.jsonl --codes",
    "generate --model TINY/har --count 2 -o codes.safetensors --codes",
    "encode emoji --model TINY/tokenizer -o encoded.safetensors",
    "decode encoded.safetensors --model TINY/tokenizer -o decoded",
    "reconstruct emoji --model TINY/tokenizer -o reconstructed --grid back.png",
    "evaluate --make-reference emoji -o statistics.npz --features random --cache cache",
    "report run -o report.html",
)


@pytest.mark.slow
def test_every_file_and_folder_has_the_mode_that_the_umask_gives(restok, tiny_models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "emoji", [f"{i}.png" for i in range(6)])
    before = os.umask(0o027)
    try:
        for line in WRITERS:
            words = line.replace("TINY", str(tiny_models)).split()
            result = restok(*words)
            assert result.code == 0, (line, result.err)
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if "emoji" not in path.parts}
    assert len(modes) > 60
    assert [(str(path), oct(mode)) for path, mode in modes.items() if mode != (0o750 if path.is_dir() else 0o640)] == []
