"""The playground in a real browser, against the real server with the built-in pair."""

from __future__ import annotations

import json
import re
import threading
import time
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
import uvicorn
from fastapi.testclient import TestClient

from mull.analysis.stages import stages_of_samples
from mull.benchmarks import FREE_ANSWER
from mull.dynamic.estimators.conf import zero_shot
from mull.engines.base import Sampling
from mull.engines.local.engine import LocalEngine
from mull.runs.store import RunStore
from mull.serving.app import application
from mull.serving.backend import Limits, LocalBackend
from mull.serving.levels import Levels
from mull.serving.playground.measured import measured
from mull.serving.playground.page import page
from mull.serving.service import Service
from mull.tiny import checkpoint_folder
from tests.browser import Opened, axe_source, chromium
from tests.reports.conftest import HOSTILE, make_run

QUESTION = "What is the sum of 3 4 5 6 7?"
LEVELS = Levels(model="mull", default=0.6)
ALL_DONE = "() => document.querySelector('.reply') && !document.querySelector('[aria-busy=true]')"


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def service():
    folders = checkpoint_folder("instruct"), checkpoint_folder("thinking")
    engine = LocalEngine(*folders, donor="thinking", device="cpu", by_row=True)
    limits, sampling = Limits(max_tokens=400), Sampling(max_tokens=400)
    backend = LocalBackend(engine, estimator=zero_shot(FREE_ANSWER), form=FREE_ANSWER, limits=limits, sampling=sampling)
    yield Service(backend, LEVELS, limits=limits, sampling=sampling)
    backend.close()


@pytest.fixture(scope="module")
def curves(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "sums-run"
    make_run(folder, (0, 0.4, 0.5, 0.6, 1), 12, 2).__exit__()
    with RunStore.open(folder) as store:
        samples = store.samples(texts=False)
    return measured(samples, stages_of_samples(samples), folder.name)


@contextmanager
def running(app):
    """The address of a server of this application."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server has not started"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def address(service, curves):
    shown = page(LEVELS, pair="instruct and thinking", measured=curves, examples=[QUESTION, HOSTILE])
    with running(application(service, page=shown)) as found:
        yield found


def ask(opened, question=QUESTION):
    """Types a question, and waits for every answer to it."""
    opened.page.fill("#question", question)
    opened.page.keyboard.press("Enter")
    opened.page.wait_for_function(ALL_DONE)


def answered_with(opened, *events, status=200, headers=None):
    """From now on the server answers a question with these events."""
    body = "".join(f"data: {event}\n\n" for event in events)
    kind = {"content-type": "text/event-stream", **(headers or {})}
    opened.page.route("**/v1/chat/completions", lambda route: route.fulfill(status=status, headers=kind, body=body))


def chunks(thought="", answer="", finish="stop", **mull):
    """A whole stream as the server writes it; `mull` is told at its end."""
    said = {"lambda": 0.6, "source": "lambda", "budget": None}
    deltas = [{"role": "assistant", "content": ""}, {"reasoning": thought, "reasoning_content": thought}]
    deltas += [{"content": answer}]
    told = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    told[0]["mull"] = said
    told.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}], "mull": said | mull})
    usage = {"completion_tokens": 1234, "completion_tokens_details": {"reasoning_tokens": 1000}}
    return [*map(json.dumps, [*told, {"choices": [], "usage": usage}]), "[DONE]"]


def test_a_thought_streams_and_the_answer_stands_apart_with_its_tokens(browser, address):
    with Opened(browser, f"{address}#lambda=1", 1400, "light") as opened:
        opened.page.evaluate(
            """() => { window.lengths = new Set();
            new MutationObserver(() => lengths.add(document.querySelector(".thought pre")?.textContent.length))
            .observe(document.getElementById("turns"), {subtree: true, childList: true, characterData: true}); }"""
        )
        ask(opened)
        reply = opened.page.locator(".reply")
        assert reply.locator("h3").inner_text() == "λ = 1"
        thought, answer = reply.locator(".thought pre").inner_text(), reply.locator(".answer").inner_text()
        assert "think" in thought and "boxed" in answer and "boxed" not in thought
        all_, thinking, rest = map(int, re.findall(r"\d+", reply.locator(".meta").inner_text())[:3])
        assert all_ == thinking + rest and thinking > 10
        assert re.search(r" · \d+\.\d s · λ as set$", reply.locator(".meta").inner_text())
        assert opened.page.evaluate("() => lengths.size") > 5, "the thought came in many pieces"
        assert "boxed" in opened.page.locator("#status").inner_text(), "told to screen readers once, at the end"
        assert opened.page.locator("#question").evaluate("e => e === document.activeElement")
        reply.locator(".thought summary").click()
        assert not reply.locator(".thought pre").is_visible()
        assert opened.said == []
        assert {urlsplit(each).netloc for each in opened.asked} == {urlsplit(address).netloc}


def test_auto_says_which_lambda_it_chose_and_why(browser, address):
    with Opened(browser, f"{address}#lambda=auto", 1400, "light") as opened:
        assert "chosen for each question" in opened.page.locator("#words").inner_text()
        assert opened.page.locator("circle.marker").count() == 0
        ask(opened)
        chosen = re.fullmatch(r"λ = ([\d.]+)", opened.page.locator(".reply h3").inner_text())
        assert chosen and 0 <= float(chosen[1]) <= 1
        assert "auto (" in opened.page.locator(".reply .meta").inner_text()
        assert opened.page.locator(".setting output").inner_text() == f"auto ({chosen[0]})"
        assert opened.page.locator("circle.marker").count() == 3


def test_settings_are_compared_side_by_side(browser, address):
    with Opened(browser, f"{address}#lambda=0", 1400, "light") as opened:
        for _ in range(3):
            opened.page.click("#compare")
        assert opened.page.locator("#compare").is_disabled()
        opened.page.click("text=Remove >> nth=1")
        names = opened.page.locator(".setting output").all_inner_texts()
        assert names == ["λ = 0", "λ = 0.5", "λ = 0.75"]
        ask(opened)
        assert opened.page.locator(".reply h3").all_inner_texts() == [
            "A: λ = 0",
            "B: λ = 0.5",
            "C: λ = 0.75",
        ]
        assert all("boxed" in text for text in opened.page.locator(".reply .answer").all_inner_texts())
        boxes = [each.bounding_box() for each in opened.page.locator(".reply").all()]
        assert len({box["y"] for box in boxes}) == 1 and boxes[0]["x"] < boxes[1]["x"] < boxes[2]["x"]
        assert opened.page.locator("circle.marker").count() == 3 * 3
        assert opened.said == []


def test_a_second_turn_sends_the_answers_and_no_thought(browser, address):
    with Opened(browser, f"{address}#lambda=1&lambda=0&budget=30&budget=", 1400, "light") as opened:
        sent = []
        opened.page.on("request", lambda r: sent.append(r.post_data_json) if r.post_data else None)
        ask(opened)
        answers = [each.text_content() for each in opened.page.locator(".answer").all()]
        ask(opened, "And with 8?")
        assert [body["messages"] for body in sent[:2]] == [[{"role": "user", "content": QUESTION}]] * 2
        for body, answer in zip(sent[2:], answers, strict=True):
            assert body["messages"] == [
                {"role": "user", "content": QUESTION},
                {"role": "assistant", "content": answer},
                {"role": "user", "content": "And with 8?"},
            ]
        assert [body["lambda"] for body in sent] == [1, 0, 1, 0]
        assert [body.get("thinking_token_budget") for body in sent] == [30, None, 30, None]
        assert opened.page.locator(".turn").count() == 2
        opened.page.click("#new")
        assert opened.page.locator(".turn").count() == 0
        ask(opened)
        assert len(sent[-1]["messages"]) == 1


def test_a_setting_is_shared_by_the_address(browser, address):
    with Opened(browser, address, 1400, "light") as opened:
        assert opened.page.locator(".setting output").all_inner_texts() == ["λ = 0.6"], "the server's default"
        opened.page.locator("input[type=range]").focus()
        opened.page.keyboard.press("ArrowRight")
        opened.page.keyboard.press("PageUp")
        opened.page.fill(".budget input", "200")
        opened.page.click("#compare")
        opened.page.click(".setting >> nth=1 >> text=auto")
        opened.page.fill("#question", "a & b = #λ?")
        opened.page.wait_for_function("() => location.hash.includes('q=')")
        shared = opened.page.evaluate("() => location.href")
    query = parse_qs(urlsplit(shared).fragment, keep_blank_values=True)
    assert query == {"lambda": ["0.71", "auto"], "budget": ["200", ""], "q": ["a & b = #λ?"]}
    with Opened(browser, shared, 1400, "light") as opened:
        assert opened.page.locator(".setting output").all_inner_texts() == ["λ = 0.71", "auto"]
        assert opened.page.locator(".budget input").first.input_value() == "200"
        assert opened.page.locator("#question").input_value() == "a & b = #λ?"
        assert opened.page.locator(".turn").count() == 0, "nothing is asked before the reader does"
        assert opened.page.url == shared
        opened.page.evaluate("() => { location.hash = '#lambda=0.2'; }")
        opened.page.wait_for_function("() => document.querySelectorAll('.setting').length === 1")
        assert opened.page.locator(".setting output").inner_text() == "λ = 0.2"


@pytest.mark.parametrize("hash_", ["#lambda=7", "#lambda=x&budget=-1", "#lambda=&q=", "#%%%", "#lambda=NaN&budget=1e9"])
def test_an_address_that_says_nonsense_opens_with_the_default(browser, address, hash_):
    with Opened(browser, address + hash_, 1400, "light") as opened:
        assert opened.page.locator(".setting output").all_inner_texts() == ["λ = 0.6"]
        assert opened.page.locator(".budget input").input_value() == ""
        assert opened.said == []


@pytest.mark.parametrize("how", ["Escape", "button"])
def test_an_answer_can_be_stopped_and_frees_its_rows(browser, address, service, how):
    with Opened(browser, f"{address}#lambda=1&lambda=0.9", 1400, "light") as opened:
        opened.page.fill("#question", QUESTION)
        opened.page.click("#send")
        opened.page.wait_for_function("() => document.querySelector('.thought pre').textContent")
        if how == "Escape":
            opened.page.keyboard.press("Escape")
        else:
            opened.page.click("#stop")
        opened.page.wait_for_function(ALL_DONE)
        assert "stopped" in opened.page.locator(".reply .badge").all_inner_texts()
        assert opened.page.locator("#send").is_visible() and not opened.page.locator("#stop").is_visible()
        ended = time.monotonic() + 20
        while service.backend.under_way:
            assert time.monotonic() < ended, "the rows are still under way"
            time.sleep(0.02)
        ask(opened)
        assert opened.said == []


def test_hostile_text_stays_text(browser, address):
    with Opened(browser, address, 1400, "light") as opened:
        dialogs = []
        opened.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        assert opened.page.locator(".examples button").last.text_content() == HOSTILE
        answered_with(opened, *chunks(thought=HOSTILE * 2, answer=HOSTILE))
        ask(opened, HOSTILE)
        assert opened.page.locator(".question .text").text_content() == HOSTILE
        assert opened.page.locator(".answer").text_content() == HOSTILE
        assert opened.page.locator(".thought pre").text_content() == HOSTILE * 2
        assert opened.page.locator(".reply .meta").inner_text().startswith("1,234 tokens: 1,000 of thought, 234 of")
        opened.page.reload()
        assert opened.page.locator("#question").input_value() == HOSTILE
        assert opened.page.locator("img").count() == 0 and dialogs == [] and opened.said == []
        assert {urlsplit(each).netloc for each in opened.asked} == {urlsplit(address).netloc}


def test_a_thought_without_an_answer_says_so(browser, address):
    with Opened(browser, address, 1400, "light") as opened:
        answered_with(opened, *chunks(thought="Hm.", finish="length"))
        ask(opened)
        assert opened.page.locator(".unanswered").inner_text() == "No answer."
        assert opened.page.locator(".reply .badge").inner_text() == "cut off at the token limit"


def test_what_came_as_a_thought_and_is_the_answer_stands_there_once(browser, address):
    with Opened(browser, address, 1400, "light") as opened:
        answered_with(opened, *chunks(thought="It is 42.", answer="It is 42.", corrected=True))
        ask(opened)
        assert opened.page.locator(".answer").inner_text() == "It is 42."
        assert not opened.page.locator(".thought").is_visible()


def test_the_names_of_the_pair_stay_text(service):
    shown = page(Levels(model=HOSTILE, default=0.6), pair=HOSTILE, examples=[HOSTILE])
    assert "<script>alert" not in shown.html and "<img" not in shown.html


ERROR = '{"error": {"message": "too many requests are under way"}}'


@pytest.mark.parametrize(
    ("status", "headers", "body", "words"),
    [
        (429, {"retry-after": "7"}, ERROR, "The server is busy: too many requests are under way. Try again in 7 s."),
        (500, {}, ERROR, "The server failed: too many requests are under way."),
        (400, {}, ERROR, "The server refused the request: too many requests are under way."),
        (502, {}, "<html>Bad gateway", "The server failed (HTTP 502)."),
        (200, {}, f"data: {ERROR}\n\n", "The server broke off: too many requests are under way."),
        (200, {}, f"data: {chunks()[0]}\n\n", "The answer broke off: the connection to the server was lost."),
        (200, {}, "data: {half\n\n", "The server's answer could not be read."),
        (None, {}, "", "The server cannot be reached. Is it still running?"),
    ],
)
def test_errors_are_told_in_words(browser, address, status, headers, body, words):
    def reply(route):
        if status is None:
            return route.abort()
        return route.fulfill(status=status, headers=headers, body=body)

    with Opened(browser, address, 1400, "light") as opened:
        opened.page.route("**/v1/chat/completions", reply)
        ask(opened)
        assert opened.page.locator(".reply [role=alert]").inner_text() == words
        opened.page.unroute("**/v1/chat/completions")
        ask(opened)
        assert "boxed" in opened.page.locator(".answer").last.inner_text(), "and the chat goes on"


def test_a_key_is_asked_for_and_kept_for_the_tab_alone(browser, service):
    app = application(service, key="open sesame", page=page(LEVELS, pair="a and b", keyed=True))
    with running(app) as address, Opened(browser, address, 1400, "light") as opened:
        opened.page.fill("#key", "wrong")
        ask(opened)
        assert "asks for an API key" in opened.page.locator("[role=alert]").inner_text()
        opened.page.fill("#key", "open sesame")
        ask(opened)
        assert "boxed" in opened.page.locator(".answer").last.inner_text()
        assert opened.page.evaluate("() => [JSON.stringify(localStorage), document.cookie]") == ["{}", ""]
        assert "sesame" not in opened.page.url
        opened.page.reload()
        assert opened.page.locator("#key").input_value() == "open sesame"


def test_a_server_without_a_key_shows_no_field(browser, address):
    with Opened(browser, address, 1400, "light") as opened:
        assert not opened.page.locator("#key").is_visible()


def test_the_marker_and_the_sentence_follow_the_lambda_in_use(browser, address, curves):
    with Opened(browser, f"{address}#lambda=0.5", 1400, "light") as opened:
        words = opened.page.locator("#words")
        at = {point["lambda"]: point for point in curves["points"]}
        assert words.inner_text().replace("\u00a0", " ") == at[0.5]["words"]
        marker = opened.page.locator("line.marker").first
        point = opened.page.locator("circle.point").nth(2)
        assert float(marker.get_attribute("x1")) == pytest.approx(float(point.get_attribute("cx")))
        opened.page.locator("input[type=range]").focus()
        opened.page.keyboard.press("ArrowUp")
        text = words.inner_text().replace("\u00a0", " ")
        assert text.startswith("λ = 0.51 was not measured") and at[0.6]["short"] in text
        opened.page.click("text=max")
        assert words.inner_text().replace("\u00a0", " ") == at[1]["words"]
        assert [each.count(":") for each in (at[1]["words"],)] == [2], "an end is compared with the other end alone"


def test_without_a_run_the_page_says_how_to_get_curves(browser, service):
    app = application(service, page=page(LEVELS, pair="a and b"))
    with running(app) as address, Opened(browser, address, 1400, "light") as opened:
        assert "mull serve --run DIR" in opened.page.locator("aside").inner_text()
        assert opened.said == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_the_page_fits_is_silent_and_accessible(browser, address, width, theme):
    with Opened(browser, f"{address}#lambda=0&lambda=1&budget=20&budget=", width, theme) as opened:
        assert opened.violations(axe_source()) == []
        answered_with(opened, *chunks(thought="Hm. " * 400, answer="Forty-two" * 60))
        ask(opened)
        if width == 390:
            opened.page.click("#measured summary")
        assert opened.overflow() == []
        assert opened.violations(axe_source()) == []
        assert opened.unreachable() == []
        assert opened.said == []


def test_the_page_is_kept_to_itself_by_its_headers_and_can_be_left_out(service):
    with TestClient(application(service, page=page(LEVELS, pair="a and b"))) as client:
        reply = client.get("/")
        policy = reply.headers["content-security-policy"]
        assert reply.status_code == 200 and policy.startswith("default-src 'none'; connect-src 'self';")
        assert "unsafe" not in policy and len(re.findall("sha256-", policy)) == 2
        assert not re.search(r"""(src|href)=["']?(https?:)?//""", reply.text)
    with TestClient(application(service)) as client:
        assert client.get("/").status_code == 404
