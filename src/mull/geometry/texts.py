"""The texts that the models of all λ read: responses of both ends to the same questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from mull.checkpoints.pair import Pair
from mull.engines.base import Request, Sampling
from mull.engines.local.engine import LocalEngine
from mull.engines.local.prompts import Prompts
from mull.errors import MullError
from mull.geometry.prompts import Messages
from mull.geometry.similarity import FEWEST
from mull.merging.coefficients import Coefficients

Style = Literal["instruct", "thinking"]
STYLES: tuple[Style, ...] = ("instruct", "thinking")
"""The end that wrote a text; at λ 0 and 1."""


class Text(NamedTuple):
    """One response of an end to a question."""

    question: str
    style: Style
    prompt: tuple[int, ...]
    response: tuple[int, ...]
    """Token ids, the end-of-text token included where it was reached."""


def rendered(prompts: Prompts, asked: Mapping[str, Messages]) -> dict[str, tuple[int, ...]]:
    """Question → its prompt under the donor's chat template.

    Raises:
        MullError: a prompt cannot be rendered, or leaves no room for a response in the context.
    """
    found = {}
    for question, messages in asked.items():
        try:
            ids = prompts.render(messages)
        except MullError as error:
            raise MullError(f"{question}: {error.what}", error.remedy) from None
        if len(ids) + FEWEST > prompts.context:
            raise MullError(
                f"{question} has {len(ids):,} tokens, the model's context is {prompts.context:,}", "shorten it"
            )
        found[question] = ids
    return found


def generated(
    pair: Pair,
    prompts: Prompts,
    asked: Mapping[str, tuple[int, ...]],
    *,
    max_tokens: int,
    device: str = "auto",
    trust_remote_code: bool = False,
    advance: Callable[[int], object] = lambda count: None,
) -> list[Text]:
    """The greedy responses of both ends to the rendered prompts; `advance(1)` is called after each.

    Raises:
        MullError: the in-process engine cannot run this model family (`mull.engines.local.support`), or out of memory.
    """
    engine = LocalEngine(
        pair.instruct.folder,
        pair.thinking.folder,
        donor=pair.donor_side,
        device=device,
        trust_remote_code=trust_remote_code,
        prompts=prompts,
    )
    sampling = Sampling(temperature=0.0, max_tokens=max_tokens)
    texts = {}
    for style, lam in zip(STYLES, (0.0, 1.0), strict=True):
        engine.set_weights(Coefficients.scalar(lam))
        requests = [Request(id=name, prompt_ids=ids, seed=0, sampling=sampling) for name, ids in asked.items()]
        for done in engine.generate(requests):
            texts[done.id, style] = Text(done.id, style, asked[done.id], done.token_ids)
            advance(1)
    return [texts[question, style] for question in asked for style in STYLES]


def encoded(
    prompts: Prompts,
    question: str,
    style: Style,
    prompt: tuple[int, ...],
    text: str,
    *,
    finished: bool,
    max_tokens: int,
) -> Text:
    """A recorded response, tokenised again: at most its first `max_tokens` tokens, and what the context holds."""
    ids = prompts.tokenizer.encode(text, add_special_tokens=False)
    if finished and prompts.stop_ids:
        usual = prompts.tokenizer.eos_token_id
        ids.append(usual if usual in prompts.stop_ids else min(prompts.stop_ids))
    return Text(question, style, prompt, tuple(ids[: min(max_tokens, prompts.context - len(prompt))]))


def long_enough(texts: Sequence[Text]) -> list[Text]:
    """The texts with the `FEWEST` tokens that HSIC needs, of questions whose responses of both ends have them.

    Raises:
        MullError: fewer than two questions are left.
    """
    short = {text.question for text in texts if len(text.response) < FEWEST}
    kept = [text for text in texts if text.question not in short]
    if len({text.question for text in kept}) < 2:
        raise MullError(
            f"fewer than two questions have responses of {FEWEST} tokens or more from both ends",
            "give more questions, or ones that need longer answers",
        )
    return kept
