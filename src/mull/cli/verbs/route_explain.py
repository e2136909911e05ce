"""`mull route explain`: the λ of one question, the reason, and what the pair answers at 0, λ(q) and 1."""

from __future__ import annotations

from typing import Annotated

import typer

from mull.api.progress.terminal import Terminal
from mull.benchmarks import BOXED_ANSWER, FREE_ANSWER, LETTER_ANSWER
from mull.cli.options.common import JsonOption, check_temperature, consoles
from mull.cli.options.groups import grouped
from mull.cli.options.routes import HeadOption, RoutePairOptions, row_engine
from mull.cli.rendering.plain import print_json
from mull.cli.rendering.routes import print_answers
from mull.errors import MullError, nearest

FORMS = {"boxed": BOXED_ANSWER, "letter": LETTER_ANSWER, "free": FREE_ANSWER}


@grouped
def route_explain(
    question: Annotated[str, typer.Argument(help="The question, or a conversation's last turn.", metavar="QUESTION")],
    estimator: Annotated[str, typer.Option(help="conf, or one of the head's.", metavar="NAME")] = "conf",
    head: HeadOption = None,
    answer: Annotated[
        str | None,
        typer.Option(help="How a forced answer begins: boxed, letter or free (default: the head's, or free)."),
    ] = None,
    system: Annotated[str | None, typer.Option(help="A system prompt.", metavar="TEXT")] = None,
    max_tokens: Annotated[int, typer.Option(help="Most tokens per response.", min=1)] = 2048,
    temperature: Annotated[float, typer.Option(help="0 = greedy.", min=0)] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    json: JsonOption = False,
    *,
    pair: RoutePairOptions,
) -> None:
    """Choose λ for one question, say why, and show the responses at 0, λ(q) and 1 side by side.

    Without options: the built-in pair and `conf`, zero-shot.

    Examples:

    `mull route explain "Start at 22, then -0 +0 *1 -0 -6. Keep the last two digits."`

    `mull route explain "…" --head head.safetensors --estimator pref --instruct A --thinking B`
    """
    from mull.dynamic.estimators.conf import zero_shot
    from mull.dynamic.explain import explain
    from mull.dynamic.head import Head

    stdout, stderr = consoles()
    observer = Terminal(stderr)
    if not question.strip():
        raise MullError("the question is empty", "write it in quotes")
    if answer is not None and answer not in FORMS:
        raise MullError(f"no answer form {answer!r}", nearest(answer, FORMS))
    check_temperature(temperature)
    trained = Head.open(head) if head else None
    form = FORMS[answer] if answer else trained.form if trained else FREE_ANSWER
    known = {each.name: each for each in (trained.estimators() if trained else [zero_shot(form)])}
    if estimator not in known:
        hint = nearest(estimator, known) if trained else "without --head there is conf alone"
        raise MullError(f"no estimator {estimator!r}", hint)
    opened = pair.open()
    if trained is not None:
        trained.check(opened.fingerprints)
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": question})
    with observer.busy("loading the checkpoints"):
        engine = row_engine(opened, pair)
    with observer.busy("asking at 0, λ(q) and 1"):
        found = explain(
            engine,
            messages,
            known[estimator],
            form,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
        )
    if json:
        print_json(found)
        return
    print_answers(found, stdout)
