"""The routes in an application of somebody else's, in three lines, and without FastAPI a clear error."""

import subprocess
import sys
import threading

import fastapi
import httpx2
import pytest

import mull.serving
from mull.errors import MullError
from mull.tiny import checkpoint_folder
from tests.browser import Opened, chromium

from .live import running

ENDS = [checkpoint_folder("instruct"), checkpoint_folder("thinking")]
ASK = {"messages": [{"role": "user", "content": "What is the sum of 3 4 5 6 7?"}], "temperature": 0}


def test_three_lines_mount_the_routes():
    before = set(threading.enumerate())
    app = fastapi.FastAPI()

    @app.get("/mine")
    def mine():
        return {"mine": True}

    app.include_router(mull.serving.open_router(*ENDS, name="pair", efforts={"low": 0.25}, device="cpu"), prefix="/ai")
    with running(app) as url:
        assert httpx2.get(f"{url}/mine").json() == {"mine": True}
        reply = httpx2.post(f"{url}/ai/v1/chat/completions", json={**ASK, "model": "pair@1"}, timeout=60)
        assert reply.status_code == 200 and reply.json()["model"] == "pair@1"
        assert "25" in reply.json()["choices"][0]["message"]["content"]
        body = {**ASK, "model": "pair", "reasoning_effort": "low"}
        reply = httpx2.post(f"{url}/ai/v1/chat/completions", json=body, timeout=60)
        assert reply.json()["mull"]["source"] == "reasoning_effort low: chosen by the server's owner"
        assert reply.headers["x-mull-lambda"] == "0.25"
        reply = httpx2.post(f"{url}/ai/v1/chat/completions", json={**ASK, "model": "other"})
        assert reply.status_code == 404 and reply.json()["error"]["code"] == "model_not_found"
        assert any(thread.name == "mull-streams" for thread in set(threading.enumerate()) - before)
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert "mull-streams" not in left  # the engine ends with the application


@pytest.mark.parametrize("prefix", ["", "/ai", "/deep/er"])
def test_the_page_is_at_the_routers_root_and_asks_below_it(prefix):
    app = fastapi.FastAPI()
    app.include_router(mull.serving.open_router(lam=1.0, device="cpu"), prefix=prefix)
    with running(app) as url, chromium() as browser, Opened(browser, url + prefix, 1400, "light") as opened:
        assert opened.page.url.partition("#")[0] == f"{url}{prefix}/"
        assert "instruct and thinking" in opened.page.locator(".pair").inner_text()
        opened.page.locator(".examples button").first.click()
        opened.page.wait_for_function("() => document.querySelector('.reply[aria-busy=false]')")
        assert "boxed" in opened.page.locator(".answer").inner_text()
        assert set(opened.asked) <= {url + prefix, f"{url}{prefix}/", f"{url}{prefix}/v1/chat/completions"}
        assert opened.said == []


def test_the_page_can_be_left_out():
    app = fastapi.FastAPI()
    app.include_router(mull.serving.open_router(playground=False, device="cpu"), prefix="/ai")
    with running(app) as url:
        assert httpx2.get(f"{url}/ai/").status_code == 404
        assert httpx2.get(f"{url}/ai/health").status_code == 200


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"instruct": ENDS[0]}, "one checkpoint is missing"),
        ({"estimator": "pref"}, "no estimator 'pref'"),
        ({"instruct": ENDS[0], "thinking": "no/such folder"}, "no/such folder"),
    ],
)
def test_wrong_options_are_refused_before_weights_are_loaded(wrong, message):
    with pytest.raises(MullError, match=message):
        mull.serving.open_router(**wrong)


def test_without_fastapi_the_error_says_what_to_install():
    program = "import sys; sys.modules['fastapi'] = None\nimport mull.serving\nmull.serving.open_router()"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "MullError: serving needs fastapi. Install it: pip install 'mull[serve]'" in found.stderr
    program = "import sys; sys.modules['fastapi'] = None\nimport mull.serving.chat, mull.cli.verbs.chat"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_nothing_else_is_offered():
    with pytest.raises(AttributeError, match="no attribute 'run'"):
        mull.serving.run  # noqa: B018
