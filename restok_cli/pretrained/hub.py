"""Models to the Hugging Face hub, or to a mirror of it that HF_ENDPOINT names."""

from importlib.metadata import version
from pathlib import Path

from restok_cli.console import note
from restok_cli.errors import RestokError, UsageError


def check_name(name: str) -> None:
    """Raises UsageError where `name` cannot be a model's on the hub."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
        if name.count("/") != 1:
            raise HFValidationError("it has no owner")
    except HFValidationError as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{name}: no name for the hub ({reason}); give owner/name") from None


def upload(files: dict[str, Path | bytes], name: str, revision: str | None, private: bool, kind: str) -> str:
    """Put the files of a model of a kind, by their paths in it, into the hub's `name` in one commit; returns the page's
    address.

    The model is made where it is not there, and so is the branch `revision`. `private` is for a new model; one that is
    there stays as it is, but for files of another model of restok's, whose tokenizer, say, would be taken for this
    one's. Raises RestokError where the hub cannot be reached or refuses.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HTTPError,  # pyright: ignore[reportPrivateImportUsage] (whichever its client's is)
        LocalTokenNotFoundError,
    )

    from restok_cli.pretrained.folder import ALL_FILES

    hub = HfApi()
    try:
        hub.create_repo(name, private=private or None, exist_ok=True)  # None: as the owner has set it
        if revision is not None:
            hub.create_branch(name, branch=revision, exist_ok=True)
        there = hub.list_repo_files(name, revision=revision)
        stale = [path for path in there if path in ALL_FILES and path not in files]
        operations = [CommitOperationAdd(path, content) for path, content in files.items()]
        operations += [CommitOperationDelete(path) for path in stale]
        message = f"Upload {kind} with restok {version('restok')}"
        hub.create_commit(name, operations, commit_message=message, revision=revision)
    except LocalTokenNotFoundError:
        raise _not_logged_in(name) from None
    except HfHubHTTPError as error:
        status, reason = error.response.status_code, error.server_message or str(error)
        if status == 401:
            raise _not_logged_in(name) from None
        hint = "; the token must have write access to it" if status == 403 else ""
        raise RestokError(f"the hub refuses {name} ({status}: {' '.join(reason.split())}){hint}") from error
    except (HTTPError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RestokError(
            f"{hub.endpoint} cannot be reached ({reason}); check the connection and run the command again"
        ) from error
    if stale:
        note(f"deleted from {name}, since this model has none: {', '.join(stale)}")
    return f"{hub.endpoint}/{name}" + (f"/tree/{revision}" if revision else "")


def _not_logged_in(name: str) -> RestokError:
    return RestokError(
        f"{name}: the hub does not know who you are; run `hf auth login`, or set HF_TOKEN to a token that may write"
    )
