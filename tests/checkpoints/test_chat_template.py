"""What a template opens is found by rendering it, in a process that is stopped in time."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from mull.checkpoints import chat_template
from mull.checkpoints.chat_template import prompt_end
from mull.checkpoints.tokenizer_files import TokenizerFiles

HYBRID = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{{ '\n' }}"
    "{% if thinking is defined and not thinking %}<think></think>{% else %}<think>{{ '\n' }}{% endif %}{% endif %}"
)


def files(folder: Path, template: object) -> TokenizerFiles:
    folder.mkdir(exist_ok=True)
    about = {"chat_template": template, "bos_token": {"content": "<s>"}, "eos_token": "</s>", "unk_token": None}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    return TokenizerFiles(folder)


@pytest.mark.parametrize(
    ("template", "opened"),
    [
        (HYBRID, "<think>"),
        (HYBRID.replace("not thinking", "thinking").replace("is defined and", "is not defined or"), ""),
        ("{{ '<' ~ 'think' ~ '>' }}", "<think>"),
        ("{# <think> #}{{ messages[0].content }}", ""),
        ("<think></think>", ""),
        ("write <think> first{{ eos_token }}", ""),
        ("{% generation %}[THINK]{% endgeneration %}", "[THINK]"),
        ("<|channel>thought\\n", "<|channel>thought"),
        ("{% for m in messages %}{% continue %}{% endfor %}{{ messages | tojson }}<seed:think>", "<seed:think>"),
        ("{{ strftime_now('%d %b %Y') }}<thought>", "<thought>"),
        ("{{ raise_exception('no') }}<think>", None),
        ("{% if %}", None),
        ("{{ 1 / 0 }}", None),
        ("{{ messages.__class__.__mro__ }}<think>", None),
        (None, None),
    ],
)
def test_the_rendered_prompt_tells_what_is_opened(template: object, opened: str | None, tmp_path: Path) -> None:
    found = files(tmp_path / "model", template)
    assert found.opened_thought == opened
    assert found.opens_thought is (None if opened is None else bool(opened))


def test_it_renders_as_transformers_does(tmp_path: Path) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    messages = [[{"role": "user", "content": "1+1"}]]
    text, _ = render_jinja_template(messages, chat_template=HYBRID, add_generation_prompt=True, bos_token="<s>")
    assert prompt_end(HYBRID, {"bos_token": "<s>"}) == text[0]


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}<think>",
        "{{ '%2000000000d' % 1 }}<think>",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}<think>",
    ],
    ids=["endless", "huge", "recursive"],
)
def test_a_hostile_template_ends_soon(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template._worker(), "seconds", 1.0)
    begun = time.monotonic()
    assert prompt_end(template, {}) is None
    assert time.monotonic() - begun < chat_template.SECONDS
    assert prompt_end("<think>", {"eos_token": template}) == "<think>", "the next one is answered"
