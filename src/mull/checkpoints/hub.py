"""Uploading a finished model folder to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from mull.errors import MullError


def check_repo_id(repo: str) -> None:
    """Raise MullError unless this can be the name of a model on the hub. Uses no network."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise MullError(f"{repo!r} cannot be a name on the hub ({error})", "write USER/NAME") from None
    if repo.count("/") != 1:
        raise MullError(f"{repo!r} is no name on the hub", "write USER/NAME")


def push(folder: Path, repo: str, *, private: bool, message: str) -> str:
    """Upload the folder's files to the model repository `repo`, which is created if necessary. Returns its URL.

    Raises:
        MullError: no network, no login or no permission to write. The folder is not changed.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        url = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repo, commit_message=message)
    except Exception as error:
        if not is_hub_error(error):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MullError(
            f"{folder} is complete, but the hub did not take it as {repo} ({reason.rstrip('.')})",
            f"check the network and `hf auth login`, then `hf upload {repo} {folder}`",
        ) from None
    return str(url)


def is_hub_error(error: Exception) -> bool:
    """Whether the error comes from the hub's client, one of the HTTP libraries it may use, or the system."""
    return isinstance(error, OSError | ValueError) or type(error).__module__.startswith(_HTTP)


def hub_error_reason(error: Exception) -> str:
    """The hub client's reason on one line, without its first line "404 Client Error. (Request ID: …)"."""
    lines = [" ".join(line.split()).rstrip(".:") for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if " Client Error" not in line and " Server Error" not in line]
    return next(iter(told or lines), type(error).__name__)


_HTTP = ("httpx", "httpcore", "requests", "urllib3", "huggingface_hub")
