"""How many tokens are thought, counted with the built-in pair's tokenizer."""

import pytest

from mull.engines.local.prompts import Prompts
from mull.tiny import checkpoint_folder


@pytest.fixture(scope="module")
def prompts():
    return Prompts(checkpoint_folder("thinking"))


def count(prompts, text, finished=True):
    ids = prompts.tokenizer.encode(text, add_special_tokens=False)
    return prompts.thought_tokens(ids, prompts.text(ids), finished=finished), ids


@pytest.mark.parametrize(
    ("thought", "rest", "finished"),
    [
        ("12+3=15\n</think>", "\n\nThe answer is \\boxed{15}.", True),
        ("12+3=15\n</think>", "\n\nThe </think> answer", True),
        ("12+3=15\n</think>", "", False),
        ("12+3=15", "", False),
        ("", "The answer is \\boxed{15}.", True),
        ("12+3=15\n<tool_call>\n", "The answer is \\boxed{15}.", True),
    ],
)
@pytest.mark.parametrize("one_token", [True, False])
def test_the_thought_ends_with_its_closing_tag(prompts, thought, rest, finished, one_token, monkeypatch):
    """Also for a tokenizer whose closing tag is several tokens: then the text decides."""
    if not one_token:
        monkeypatch.setattr(prompts, "_close_id", None)
    found, ids = count(prompts, thought + rest, finished)
    assert prompts.text(ids[:found]).rstrip("\n") == thought.rstrip("\n")


def test_the_context_is_that_of_the_config(prompts):
    assert prompts.context == 1024 and prompts.stop_ids
