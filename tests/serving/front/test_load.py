"""Under load the front gives `auto` a smaller λ, by what it has seen of the server behind."""

from __future__ import annotations

import asyncio
import time

import httpx2
import pytest

from mull.dynamic.base import Choice, Cost
from mull.serving.app import guarded
from mull.serving.front.front import Front
from mull.serving.front.rewriting import Route
from mull.serving.levels import Levels
from mull.serving.load.control import LoadControl, LoadPolicy
from mull.serving.upstream.forwarder import Forwarder, Upstream
from mull.serving.upstream.opening import proxy_router
from mull.serving.vllm.settings import VARIABLE, Settings
from tests.serving.behind import Behind
from tests.serving.live import running

ASK = {"messages": [{"role": "user", "content": "What is 3 + 4?"}], "lambda": "auto"}


class Wants:
    """Chooses λ = 0.9 for everything."""

    asked = 0

    async def choose(self, asked):
        self.asked += 1
        return Choice(0.9, "because", Cost(generated=2, prefilled=30))


def front_with(policy, *, low=0.2, tokens=None):
    control = LoadControl(policy, low=low, tokens=tokens)
    return Front(levels=Levels(model="mull", default=0.5), base="base", chooser=Wants(), load=control)


def wished(front, body=ASK):
    return asyncio.run(front.wish(body, Route.chat, began=time.perf_counter()))


def test_lambda_falls_with_the_requests_under_way():
    front = front_with(LoadPolicy(queue_from=1, queue_full=5))
    front.enter()
    lam, said = wished(front)
    assert lam == 0.9 and "lowered_from" not in said and said["cost"] == {"generated": 2, "prefilled": 30}
    front.enter()
    front.enter()
    lam, said = wished(front)
    assert lam == pytest.approx(0.55) and said["lowered_from"] == 0.9
    assert "because; lowered from 0.9 to 0.55: 3 responses under way" in said["source"]
    assert front.metrics.lowered.labels("queue")._value.get() == 1
    assert wished(front, {**ASK, "lambda": 0.8})[0] == 0.8  # named by the client
    asked = front.chooser.asked
    for _ in range(3):
        front.enter()
    lam, said = wished(front)
    assert lam == 0.2 and said["lowered_from"] is None and front.chooser.asked == asked  # nothing is probed


def test_a_target_of_time_is_held_by_the_times_of_earlier_responses():
    front = front_with(LoadPolicy(target=20.0), tokens={0.2: 10.0, 0.9: 100.0})
    front.enter()
    assert wished(front)[0] == 0.9  # nothing has been timed yet
    front.load.between_tokens.add(1, 0.5)
    lam, said = wished(front)
    assert lam == pytest.approx(0.43, abs=0.011) and "target 20 s" in said["source"]
    assert wished(front, {**ASK, "max_tokens": 30})[0] == 0.9  # 15 s at most


def test_served_lambdas_are_the_nearest_to_the_lowered_one():
    front = front_with(LoadPolicy(queue_from=1, queue_full=5))
    front.levels = Levels(model="mull", default=0.5).among((0.0, 0.5, 1.0))
    for _ in range(3):
        front.enter()
    lam, said = wished(front)
    assert lam == 0.5 and said["source"].endswith("of the served λ the nearest to 0.55)")


def test_replies_tell_tokens_and_time():
    front, behind = front_with(LoadPolicy(target=20.0)), Behind()
    with running(behind.app) as url:
        forwarder = Forwarder([Upstream(url)])
        with running(guarded(proxy_router(front, forwarder), close=forwarder.close)) as proxy:

            def ask(**body):
                found = httpx2.post(f"{proxy}/v1/chat/completions", json={**ASK, "lambda": 0.5, **body}, timeout=30)
                assert found.status_code == 200, found.text
                while front.under_way:  # its end is counted after it was told
                    time.sleep(0.01)

            ask(n=2)
            assert front.load.tokens.at(0.5) is None  # of two responses together
            ask()
            assert front.load.tokens.at(0.5) == 9 and 0 < front.load.between_tokens.at(1) < 1
            ask(max_tokens=9)  # cut off: it would have had more
            assert front.load.tokens.at(0.5) == 9
            behind.status = 400
            assert (
                httpx2.post(f"{proxy}/v1/chat/completions", json={**ASK, "lambda": 0.5}, timeout=30).status_code == 400
            )
            assert front.load.tokens.at(0.5) == 9


def test_the_policy_reaches_the_front_in_vllm():
    settings = Settings(load=LoadPolicy(queue_from=3, queue_full=9, target=2.5))
    assert Settings.read({VARIABLE: settings.encoded()}) == settings
    assert Settings.read({}).load == LoadPolicy()
