"""Files of prompts."""

import json

import pytest

from mull.errors import MullError
from mull.geometry.prompts import read_prompts


def test_prompt_files(tmp_path):
    plain, lines = tmp_path / "a.txt", tmp_path / "a.jsonl"
    plain.write_text("one\n\ntwo\n")
    assert [prompt[0]["content"] for prompt in read_prompts(plain)] == ["one", "two"]
    messages = [{"role": "user", "content": "c"}]
    entries = ({"prompt": "a"}, {"question": "b"}, {"messages": messages})
    lines.write_text("\n".join(map(json.dumps, entries)))
    assert read_prompts(lines) == [[{"role": "user", "content": "a"}], [{"role": "user", "content": "b"}], messages]


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "holds no prompt"), ("{", r"line 1 of .* is no JSON"), ('{"text": 3}', "names no prompt")],
)
def test_wrong_prompt_files_are_refused(tmp_path, content, message):
    (tmp_path / "p.jsonl").write_text(content)
    with pytest.raises(MullError, match=message):
        read_prompts(tmp_path / "p.jsonl")
