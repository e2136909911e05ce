"""Chat templates: rendered as transformers does, and within limits whatever they try."""

import time

import pytest

from mull.engines.local import template_worker, templates
from mull.engines.local.prompts import Prompts
from mull.errors import MullError
from mull.tiny import checkpoint_folder

MESSAGES = [{"role": "system", "content": "be short"}, {"role": "user", "content": "2 + 3? <b>\n ünï"}]


@pytest.fixture(scope="module")
def prompts():
    return Prompts(checkpoint_folder("thinking"))


@pytest.fixture
def tokenizer(prompts, monkeypatch):
    """The built-in pair's, whose template a test may set."""
    monkeypatch.setattr(prompts.tokenizer, "chat_template", None)
    return prompts.tokenizer


@pytest.mark.parametrize(
    "template",
    [
        None,  # its own
        "{% for m in messages %}{{ m.role }}: {{ m['content'] | trim }}\n{% endfor %}{{ eos_token }}",
        "{%- if add_generation_prompt %}\n  {{- messages | tojson }}\n{% endif %}  {{ bos_token }}",
        "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
        {"default": "D {{ messages[-1].content }}", "tool_use": "T"},
    ],
)
def test_rendered_as_transformers_does(prompts, monkeypatch, template):
    if template is not None:
        monkeypatch.setattr(prompts.tokenizer, "chat_template", template)
    expected = prompts.tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, return_dict=False)
    assert prompts.render(MESSAGES) == tuple(expected)


FAILING = {
    "{{ 1 / 0 }}": "ZeroDivisionError",
    "{% include 'x' %}": "no loader",
    "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}": "RecursionError",
    "{{ range(10 ** 12) | list }}": "OverflowError",
    "{% if %}": "TemplateSyntaxError",
    "{{ nothing.there }}": "UndefinedError",
    "{{ '%2000000000d' % 1 }}": "MemoryError",
    "{{ 'a' * 10 ** 10 }}": "MemoryError",
    "{{ 'a' * 2 ** 24 }}": "16,777,216 characters",
    "{{ 'x' | center(10 ** 10) }}": "MemoryError",
    "{% set ns = namespace(a=['x']) %}{% for i in range(99) %}{% set ns.a = ns.a + ns.a %}{% endfor %}": "MemoryError",
    "{{ '(' * 100000 }}" + "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}": "RecursionError",
    "{{ messages[0].__class__.__mro__ }}": "SecurityError",
}


@pytest.mark.parametrize(("template", "why"), FAILING.items())
def test_a_template_that_fails_says_so(tokenizer, template, why):
    tokenizer.chat_template = template
    begun = time.monotonic()
    with pytest.raises(MullError, match=f"the chat template fails: .*{why}"):
        templates.token_ids(tokenizer, MESSAGES, 1024)
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 7 ** (7 ** 11) }}",
        "{% for a in range(9) recursive %}{{ loop(range(9)) }}{% endfor %}",
    ],
)
def test_a_template_that_does_not_end_is_stopped_and_the_next_works(tokenizer, monkeypatch, template):
    monkeypatch.setattr(templates._worker, "seconds", 1.0)
    tokenizer.chat_template = template
    with pytest.raises(MullError, match="the chat template fails"):
        templates.token_ids(tokenizer, MESSAGES, 1024)
    tokenizer.chat_template = "{{ messages[0].content }}"
    assert templates.token_ids(tokenizer, MESSAGES, 1024) == tokenizer("be short").input_ids


def test_the_limit_of_memory_leaves_room_for_the_longest_context():
    assert 4 * templates._PER_TOKEN * 1_000_000 < template_worker.MEMORY
