"""Fetches the pinned data file of a benchmark from the Hugging Face hub."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mull.checkpoints.hub import hub_client
from mull.errors import MullError


@dataclass(frozen=True, kw_only=True)
class DatasetFiles:
    """Files of one commit of a dataset repository."""

    repo: str
    revision: str
    """Commit hash, so that the content cannot change."""
    files: tuple[str, ...]
    private: bool = False
    """Its terms forbid passing it on, so it is not left in the hub's cache either."""


@contextmanager
def fetched(source: DatasetFiles, *, advice: str) -> Iterator[list[Path]]:
    """Local paths of the source's files; private files are deleted when the context ends.

    Raises:
        MullError: no network, no such file, no right to read it; `advice` is the remedy.
    """
    with tempfile.TemporaryDirectory() as folder:
        yield [_fetch(source, file, folder if source.private else None, advice) for file in source.files]


def _fetch(source: DatasetFiles, file: str, folder: str | None, advice: str) -> Path:
    from huggingface_hub import hf_hub_download

    what = f"{source.repo} could not be loaded from the hub"
    with hub_client(lambda reason: MullError(f"{what} ({reason})", advice)):
        return Path(hf_hub_download(source.repo, file, repo_type="dataset", revision=source.revision, local_dir=folder))
