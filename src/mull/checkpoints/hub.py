"""Uploading a finished model folder to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from mull.errors import MullError


def check_repo_id(repo: str) -> None:
    """Raise MullError unless this can be the name of a model on the hub; asks nobody."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise MullError(f"{repo!r} cannot be a name on the hub ({error})", "write USER/NAME") from None
    if repo.count("/") != 1:
        raise MullError(f"{repo!r} is no name on the hub", "write USER/NAME")


def push(folder: Path, repo: str, *, private: bool, message: str) -> str:
    """Upload the folder's files to the model repository `repo`, made if need be; returns its address.

    Raises:
        MullError: no network, no login, no right to write there; the folder is left as it is.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        url = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repo, commit_message=message)
    except Exception as error:
        if not is_hubs(error):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MullError(
            f"{folder} is complete, but the hub did not take it as {repo} ({reason.rstrip('.')})",
            f"check the network and `hf auth login`, then `hf upload {repo} {folder}`",
        ) from None
    return str(url)


def is_hubs(error: Exception) -> bool:
    """Whether the error is of the hub's client, of whichever HTTP library it uses, or of the system."""
    return isinstance(error, OSError | ValueError) or type(error).__module__.startswith(_HTTP)


def reason_of(error: Exception) -> str:
    """Why the hub gave nothing, on one line: what its client says below "404 Client Error. (Request ID: …)"."""
    lines = [" ".join(line.split()).rstrip(".:") for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if " Client Error" not in line and " Server Error" not in line]
    return next(iter(told or lines), type(error).__name__)


_HTTP = ("httpx", "httpcore", "requests", "urllib3", "huggingface_hub")
