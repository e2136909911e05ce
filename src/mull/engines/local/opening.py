"""Opens the engine of a pair whose rows have a λ each: what servers, chats and estimators of λ generate with."""

from __future__ import annotations

from mull.checkpoints.pair import Pair
from mull.engines.local.engine import LocalEngine
from mull.engines.local.prompts import Prompts


def open_rows(pair: Pair, *, device: str = "auto", trust_remote_code: bool = False) -> LocalEngine:
    """An engine over `pair`, in which every request names its λ. Loads the weights."""
    return LocalEngine(
        pair.instruct.folder,
        pair.thinking.folder,
        donor=pair.donor_side,
        device=device,
        trust_remote_code=trust_remote_code,
        prompts=prompts_of(pair, trust_remote_code=trust_remote_code),
        by_row=True,
    )


def prompts_of(pair: Pair, *, trust_remote_code: bool = False) -> Prompts:
    """The donor's tokenizer and template, which know the thoughts of both ends."""
    tags, folder = pair.think_tags, pair.donor.folder
    return Prompts(folder, trust_remote_code, tags) if tags else Prompts(folder, trust_remote_code)
