"""`Run.push`: the merged checkpoint of a measured λ, with the run's figures on its card, to the hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mull.api.merging import write
from mull.checkpoints.hub import check_login, check_repo_id
from mull.checkpoints.hub import push as upload
from mull.checkpoints.pair import Pair
from mull.errors import MullError
from mull.folders import write_atomically
from mull.merging.coefficients import Coefficients
from mull.merging.streaming.output import is_finished
from mull.merging.streaming.plan import MergePlan, plan_merge
from mull.reports.cards.licenses import license_of
from mull.reports.cards.measured import Measured
from mull.reports.cards.model import model_card

if TYPE_CHECKING:
    from mull.api.run import Run
    from mull.runs.sessions.observer import Observer


class Pushed(NamedTuple):
    """What was sent to the hub, or would have been."""

    repo: str
    lam: float
    folder: Path
    """The merged checkpoint with its card; it stays where it is."""
    files: dict[str, int]
    """Name → bytes."""
    url: str | None
    """Where it is; None where nothing was sent."""
    license: str = ""
    """Why the card names no license; empty if the models agree on one, or none has one on record."""


def push(
    run: Run,
    to: str,
    lam: float,
    *,
    out: Path | None,
    private: bool,
    dry_run: bool,
    instruct: str | Path | None,
    thinking: str | Path | None,
    allow: Sequence[str],
    observer: Observer,
) -> Pushed:
    """See `Run.push`."""
    measured = Measured.at(run.results, lam, run.under_way)
    lam = measured.chosen.lam or 0.0  # 0.30000000000000004 is the 0.3 of the run
    coefficients = Coefficients.scalar(lam, extrapolate=not 0 <= lam <= 1)
    repo = to.replace("{lambda}", coefficients.label)
    check_repo_id(repo)
    if not dry_run:
        check_login()
    record, names = run.results.provenance, {"instruct": instruct, "thinking": thinking}
    ends = [str(given or record.get(side) or "") for side, given in names.items()]
    pair = Pair.open(*ends, donor=run.results.plan["donor"])
    pair.check(allow)
    plan = plan_merge(pair, coefficients, allow_non_finite="non-finite" in allow)
    measured.check(plan)
    folder = run.folder / f"model-{coefficients.label}" if out is None else out
    title = repo.partition("/")[2]
    if _is_there(plan, folder):
        observer.say(f"{folder} holds this merge already")
        write_atomically(folder / "README.md", model_card(plan, title, measured=measured).encode())
    else:
        write([plan], [folder], observer, measured=[measured], names=[title])
    files = {
        path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()
    }
    _, unlicensed = license_of(pair.by_role)
    message = f"Merge with mull: λ = {coefficients.label}"
    url = None if dry_run else upload(folder, repo, private=private, message=message)
    return Pushed(repo, lam, folder, files, url, unlicensed)


def _is_there(plan: MergePlan, folder: Path) -> bool:
    """Whether `folder` holds the whole result of the plan. Raises `MullError` if it holds something else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()} if folder.is_dir() else {}
    if is_finished(folder, plan.digest) and all(sizes.get(shard.file) == shard.nbytes for shard in plan.shards):
        return True
    raise MullError(f"{folder} holds something else than this merge", "choose another place with --out, or remove it")
