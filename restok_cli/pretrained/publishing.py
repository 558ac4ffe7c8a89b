"""Contents of a model card for `restok models card` and `push`, and the files of a model that go to the hub."""

import re
from pathlib import Path

from restok_cli.console import counted
from restok_cli.errors import RestokError, UsageError
from restok_cli.files import BUNDLED, write_text
from restok_cli.metrics.compare import read_results
from restok_cli.metrics.table import METRICS, features_of, interval_text, labelled, metric_of, unusual_features
from restok_cli.pretrained.card import MetricRow, Record, card_text, is_untouched, read_record, record_text
from restok_cli.pretrained.folder import (
    CARD_FILE,
    HUB_PREFIX,
    RECORD_FILE,
    TOKENIZER_FOLDER,
    ModelFolder,
    fingerprint,
    model_files,
    open_any,
    open_tokenizer,
)


def rewrite_card(path: Path, metrics: list[Path], licence: str | None, overwrite: bool) -> Path:
    """Write the card of the model at `path` anew, with these metrics and this licence where they are given.

    Raises UsageError where it was edited and may not be replaced, or is a part of restok.
    """
    for name, bundled in BUNDLED.items():
        if path == bundled:
            raise UsageError(
                f"{name} is a part of restok, which stays as it is; copy it first: restok models halve {name} M"
            )
    model = open_local(path)
    record, card = described(model, metrics, licence), model.path / CARD_FILE
    if not overwrite and not is_untouched(model):
        raise UsageError(f"{card} is not as this restok would have written it; give --overwrite to replace it")
    # the record last: a card beside an older record looks edited, and is left alone, but none is lost
    write_text(card, card_text(model, record))
    write_text(model.path / RECORD_FILE, record_text(record))
    return card


def open_local(path: Path) -> ModelFolder:
    """The model in the folder `path`. Raises UsageError where there is none, or it is on the hub."""
    if str(path).startswith(HUB_PREFIX):
        raise UsageError(f"{path} is on the hub already; give a folder on this machine")
    return open_any(path)


def described(model: ModelFolder, metrics: list[Path], licence: str | None) -> Record:
    """Gather the record of a model for its card, with these metrics and this licence where they are given.

    Raises UsageError for what is no licence's name, RestokError for files without results, or with another model's.
    """
    record = read_record(model.path)
    if licence is not None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", licence):
            raise UsageError(f"--licence {licence}: give one short name, such as mit, apache-2.0 or other")
        record = record.model_copy(update={"licence": licence.lower()})
    if metrics:
        results = tuple(result for file in metrics for result in read_rows(file, model))
        record = record.model_copy(update={"results": results})
    return record


def read_rows(file: Path, model: ModelFolder) -> list[MetricRow]:
    """The rows of a card that `restok evaluate --json` gives, with --num-codes too.

    Raises RestokError where the file holds something else, or says that another model was measured.
    """
    rows, measured = [], set()
    for num_codes, result in read_results(file).items():
        words = "" if num_codes is None else f" from {counted(num_codes, 'code')}"
        measured |= {run["protocol"].get("model_fingerprint") for run in result.get("runs") or [result]}
        rows += [_row(name, fact, words, result["protocol"]) for name, fact in result["metrics"].items()]
    ours = {None, fingerprint(model)}
    if (model.path / TOKENIZER_FOLDER).is_dir():
        ours.add(fingerprint(open_tokenizer(model.path)))
    if strangers := measured - ours:
        raise RestokError(
            f"{file} holds numbers of another model (fingerprint {min(strangers)[:16]}); measure this one"
        )
    return rows


def _row(name: str, fact: dict, words: str, protocol: dict) -> MetricRow:
    """Files are named without their folders, which mean nothing elsewhere."""
    metric, against = METRICS[metric_of(name)], ""
    if metric.against:
        against = Path(protocol["reference"]["source"]).name
        against += f", {count:,} image{'s' * (count != 1)}" if (count := fact["n_reference"]) else ""
    basis = f"{features_of(name, protocol)['network']} features" if metric.basis == "features" else fact["definition"]
    if runs := fact.get("values"):
        basis += f"; mean of {len(runs)} runs"
    if interval := fact.get("interval"):
        basis += f"; 95 % interval {interval_text(interval)}"
    return MetricRow(
        name=labelled(fact["name"], unusual_features(name, protocol)) + words,
        value=fact["value"],
        unit=metric.unit,
        reference=against,
        basis=basis,
        caveat=fact["caveat"],
    )


def to_publish(model: ModelFolder, name: str, metrics: list[Path], licence: str | None) -> dict[str, Path | bytes]:
    """The files that a model consists of, by their names on the hub, with a card whose commands say `hf:name`.

    A card that was edited goes as it is. Raises UsageError where it would have to say more.
    """
    record = described(model, metrics, licence)
    files: dict[str, Path | bytes] = {file.name: file for file in model_files(model)}
    if is_untouched(model):
        files[CARD_FILE] = card_text(model, record, HUB_PREFIX + name).encode()
        files[RECORD_FILE] = record_text(record).encode()
    elif record != read_record(model.path):
        raise UsageError(
            f"{model.path / CARD_FILE} was edited, and would not get the metrics and the licence; write them into it, "
            "or have it written anew by `restok models card --overwrite`"
        )
    if model.kind == "har" and (model.path / TOKENIZER_FOLDER).is_dir():
        tokenizer = open_tokenizer(model.path)
        files |= {f"{TOKENIZER_FOLDER}/{file.name}": file for file in model_files(tokenizer)}
    return files
