"""A stream says what its unstreamed twin says, thought and answer apart."""

from __future__ import annotations

import itertools
import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from mull import tiny
from mull.serving.levels import Undecided
from mull.tiny import problems

LAMS = (0, 0.4, 0.5, 1)
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def questions(count):
    return [problem.text for problem in itertools.islice(problems.stream("report", 5), count)]


def whole(server, body):
    found = server.post("/v1/chat/completions", body)
    assert found.status_code == 200, found.text
    message = found.json()["choices"][0]["message"]
    assert message["reasoning"] == message["reasoning_content"]
    return message["reasoning"] or "", message["content"], counted(found.json()["usage"])


def streamed(server, body):
    """Joined reasoning, joined content, usage, and in how many chunks they came."""
    told, usage, count = {"reasoning": "", "content": ""}, None, 0
    body = {**body, "stream": True, "stream_options": {"include_usage": True}}
    with httpx2.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=120) as reply:
        lines = [line for line in reply.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    for line in lines[:-1]:
        chunk = json.loads(line.removeprefix("data: "))
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            for kind in told:
                told[kind] += choice["delta"].get(kind) or ""
            count += bool(choice["delta"].get("reasoning") or choice["delta"].get("content"))
    return (told["reasoning"], told["content"], counted(usage)), count


def counted(usage):
    """Without the tokens that the twin that came first has left in the cache."""
    assert 0 <= usage.pop("prompt_tokens_details")["cached_tokens"] < usage["prompt_tokens"]
    return usage


def differing(server, count, lams, **settings):
    """How many of the streams of so many prompts and these λ differ from their twins."""

    def differs(case):
        text, lam = case
        body = {"model": "mull", "messages": [{"role": "user", "content": text}], "lambda": lam, "seed": 1, **settings}
        return streamed(server, body)[0] != whole(server, body)

    with ThreadPoolExecutor(16) as pool:
        return sum(pool.map(differs, itertools.product(questions(count), lams)))


def test_streams_equal_their_unstreamed_twins(server):
    assert differing(server, 20, LAMS, temperature=0) == 0


def test_streams_that_are_cut_off_equal_their_twins(server):
    assert differing(server, 6, (0, 0.3, 0.4, 0.5, 0.7, 1), max_tokens=21, temperature=0.8) == 0
    assert differing(server, 6, LAMS, stop=["=1", "answer"]) == 0


@pytest.mark.slow
def test_many_streams_equal_their_unstreamed_twins(server):
    assert differing(server, 50, LAMS, temperature=0) == 0
    assert differing(server, 50, LAMS) == 0


def test_text_is_held_back_only_where_both_are_likely(server, ask):
    body = {"model": "mull", "messages": ask(), "temperature": 0}
    (reasoning, content, _), count = streamed(server, {**body, "lambda": 0.4})
    assert content and not reasoning and count == 1  # what it is, is known at its end
    for lam in (0, 0.3, 0.7, 1):
        (reasoning, content, _), count = streamed(server, {**body, "lambda": lam})
        assert bool(reasoning) == (lam >= 0.7) and content and count > 10


def test_without_measurements_only_thinking_itself_is_told_at_once(serve, ask):
    body = {"model": "mull", "messages": ask(), "temperature": 0}
    with serve(undecided=Undecided()) as server:
        (_, content, _), count = streamed(server, {**body, "lambda": 0})
        assert content and count == 1
        (reasoning, _, _), count = streamed(server, {**body, "lambda": 0.7})
        assert reasoning and count > 5  # the thought as one, then the answer
        (reasoning, _, _), count = streamed(server, {**body, "lambda": 1})
        assert reasoning and count > 50


def test_a_stream_that_took_an_answer_for_a_thought_says_so_and_gives_the_answer(serve, ask):
    with serve(undecided=Undecided(-1.0, 0.0)) as server:
        body = {"model": "mull@0", "messages": ask(), "temperature": 0}
        _, answer, _ = whole(server, body)
        with httpx2.stream("POST", f"{server.url}/v1/chat/completions", json=body | {"stream": True}) as reply:
            chunks = [json.loads(line[6:]) for line in reply.iter_lines() if line and line != "data: [DONE]"]
        assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == answer
        assert chunks[-1]["mull"]["corrected"] is True
        metrics = httpx2.get(f"{server.url}/metrics").text
        assert "mull_streams_corrected_total 1.0" in metrics


def test_under_a_template_that_opens_no_thought_nothing_is_held_back(serve, tmp_path, ask):
    folders = (tmp_path / "instruct", tmp_path / "thinking")
    for folder in folders:
        shutil.copytree(tiny.checkpoint_folder(folder.name), folder)
        config = json.loads((folder / "tokenizer_config.json").read_text())
        config["chat_template"] = PLAIN_TEMPLATE
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        (folder / "chat_template.jinja").unlink(missing_ok=True)
    with serve(on=folders) as server:
        assert server.engine.prompts.opened(server.engine.render(ask())) is None
        for lam in (0, 0.4, 1):
            body = {"model": "mull", "messages": ask(), "lambda": lam, "temperature": 0, "max_tokens": 200}
            told, count = streamed(server, body)
            assert told == whole(server, body) and count > 5
