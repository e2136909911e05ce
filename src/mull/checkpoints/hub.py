"""The Hugging Face hub: its client's errors and retries in mull's words, and uploading a finished model folder."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mull.errors import MullError

log = logging.getLogger(__name__)


@contextmanager
def hub_client(failed: Callable[[str], MullError]) -> Iterator[None]:
    """For calls of the hub's client: what it logs stays unseen but for one line when it tries again, it draws bars on a
    terminal only, and its errors become `failed(reason)`."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    logger = logging.getLogger("huggingface_hub")
    handlers: list[logging.Handler] = logger.handlers
    logger.handlers = [_Retries()]
    wanted = sys.stderr.isatty() and log.isEnabledFor(logging.WARNING)
    hide = not wanted and not are_progress_bars_disabled()
    if hide:
        disable_progress_bars()
    try:
        yield
    except Exception as error:
        if not is_hub_error(error):
            raise
        raise failed(hub_error_reason(error)) from None
    finally:
        logger.handlers = handlers
        if hide:
            enable_progress_bars()


class _Retries(logging.Handler):
    """Tells the first retry; the client logs two lines for each."""

    told = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self.told and record.getMessage().startswith(("Retrying", "Rate limited")):
            self.told = True
            log.warning("the hub does not answer: trying again, for half a minute at most")


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


def check_login() -> None:
    """Raise MullError if there is no token with which the hub would take an upload. Uses no network."""
    from huggingface_hub import get_token

    if get_token() is None:
        raise MullError(
            "the hub takes uploads from users only, and no token is here", "`hf auth login`, or set HF_TOKEN"
        )


def push(folder: Path, repo: str, *, private: bool, message: str) -> str:
    """Upload the folder's files to the model repository `repo`, which is created if necessary. Returns its URL.

    Raises:
        MullError: no network, no login or no permission to write. The folder is not changed.
    """
    from huggingface_hub import HfApi

    remedy = f"check the network and `hf auth login`, then `hf upload {repo} {folder}`"
    what = f"{folder} is complete, but the hub did not take it as {repo}"
    log.debug("uploading %s as %s", folder, repo)
    with hub_client(lambda reason: MullError(f"{what} ({reason})", remedy)):
        api = HfApi()
        url = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repo, commit_message=message)
    return str(url)


def is_hub_error(error: Exception) -> bool:
    """Whether the error comes from the hub's client, one of the HTTP libraries it may use, or the system."""
    return isinstance(error, OSError | ValueError) or type(error).__module__.startswith(_HTTP)


def hub_error_reason(error: Exception) -> str:
    """The hub client's reason on one line, without its first line "404 Client Error. (Request ID: …)"."""
    lines = [" ".join(line.split()).rstrip(".:") for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if " Client Error" not in line and " Server Error" not in line]
    return next(iter(told or lines), type(error).__name__).removeprefix("Got: ")


_HTTP = ("httpx", "httpcore", "requests", "urllib3", "huggingface_hub")
