"""mull.json: what a merge records about itself, with everything needed to repeat it."""

from __future__ import annotations

import hashlib

import torch

from mull import __version__
from mull.checkpoints.checkpoint import Checkpoint
from mull.checkpoints.fingerprint import fingerprint
from mull.errors import MullError
from mull.merging.streaming.plan import MergePlan


def shared_manifest(plan: MergePlan, hashes: dict[str, dict[str, str]]) -> dict[str, object]:
    """The entries that all results of a run share; `MergePlan.described` adds those of each result."""
    manifest: dict[str, object] = {
        "mull": __version__,
        "torch": torch.__version__,
        "donor_name": plan.group.donor.published_name,
    }
    for role, model in plan.group.by_role.items():
        files = _files(model, hashes.get(role, {}))
        manifest[role] = {"name": model.published_name, "fingerprint": fingerprint(model), "files": files}
    manifest["findings"] = [f"{f.code}: {f.what}" for f in plan.group.findings() if f.severity != "same"]
    return manifest


def content_hashes(plan: MergePlan) -> dict[str, dict[str, str]]:
    """SHA-256 of every input file: role → file name → hash."""
    hashes: dict[str, dict[str, str]] = {}
    for role, model in plan.group.by_role.items():
        hashes[role] = {}
        for path in model.files:
            with path.open("rb") as file:
                hashes[role][path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def check_hashes(plan: MergePlan, before: dict[str, dict[str, str]]) -> None:
    """Raise MullError if the content of an input file has changed since `before`."""
    for role, hashes in content_hashes(plan).items():
        for name, digest in hashes.items():
            if before[role][name] != digest:
                path = plan.group.by_role[role].folder / name
                what = f"{path} changed while it was read, though not in size or time of change"
                raise MullError(what, "make sure that nothing writes to it, then run again")


def _files(model: Checkpoint, hashes: dict[str, str]) -> dict[str, dict[str, object]]:
    """Size and header hash of each file; its content hash if it is in `hashes` or known from the hub's cache."""
    files: dict[str, dict[str, object]] = {}
    for path in model.files:
        with path.open("rb") as file:
            head = file.read(8)
            header = hashlib.sha256(head + file.read(int.from_bytes(head, "little"))).hexdigest()
        entry: dict[str, object] = {"bytes": path.stat().st_size, "header_sha256": header}
        blob = path.resolve().name
        if path.name in hashes:
            entry["sha256"] = hashes[path.name]
        elif path.is_symlink() and len(blob) == 64:  # the hub's cache uses the SHA-256 as file name
            entry["sha256"] = blob
        files[path.name] = entry
    return files
