"""Files of prompts."""

import json

import pytest

from mull.errors import MullError
from mull.geometry import prompts
from mull.geometry.prompts import read_prompts


def test_prompt_files(tmp_path):
    plain, lines = tmp_path / "a.txt", tmp_path / "a.jsonl"
    plain.write_text("one\r\n\ntwo\n")
    assert [prompt[0]["content"] for prompt in read_prompts(plain)] == ["one", "two"]
    messages = [{"role": "user", "content": "c"}]
    entries = ({"prompt": "a\u2028a"}, {"question": "b"}, {"messages": messages})
    lines.write_text("\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries))
    wanted = [[{"role": "user", "content": "a\u2028a"}], [{"role": "user", "content": "b"}], messages]
    assert read_prompts(lines) == wanted


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no prompt"),
        ("{", r"line 1 of .* is no JSON"),
        ('{"prompt": "a"}\n\n{', r"line 3 of .* is no JSON"),
        ("[" * 100_000, r"line 1 of .* is no JSON"),
        ('{"text": 3}', "names no prompt"),
        ('{"prompt": " "}', "names no prompt"),
        ('{"messages": []}', "without role or content"),
        ('{"messages": [{"role": "user", "content": 3}]}', "without role or content"),
        ('{"messages": ["hello"]}', "without role or content"),
    ],
)
def test_wrong_prompt_files_are_refused(tmp_path, content, message):
    (tmp_path / "p.jsonl").write_text(content)
    with pytest.raises(MullError, match=message):
        read_prompts(tmp_path / "p.jsonl")


def test_a_huge_file_and_a_folder_are_refused(tmp_path, monkeypatch):
    with pytest.raises(MullError, match="cannot read the prompts"):
        read_prompts(tmp_path)
    monkeypatch.setattr(prompts, "LARGEST", 10)
    (tmp_path / "p.txt").write_text("more than ten bytes")
    with pytest.raises(MullError, match="larger than"):
        read_prompts(tmp_path / "p.txt")
