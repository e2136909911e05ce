"""Time of a sweep, and the sums that `mull sweep --dry-run` shares."""

import pytest

from mull.planning.configs import find
from mull.planning.cost import sweep_cost
from mull.planning.hardware import GPUS, Cluster
from mull.planning.roofline import Load, Split, prefill_seconds, step_seconds
from mull.planning.sweep import Part, Total, mean_tokens, total
from mull.planning.ways import Traffic, fits, sweep_way

MODEL, H200 = find("Qwen3-4B"), GPUS["H200"]


def cost_of(parts, per_node=1, k=8):
    cluster = Cluster(gpu=H200, per_node=per_node)
    asked = Traffic(prompt=200, tokens=1000, concurrent=None, lambdas=1)
    return sweep_cost(sweep_way(fits(MODEL, cluster, asked)), MODEL, cluster, 200, k, parts)


def test_a_sweep_takes_its_steps_its_prompts_and_its_switches():
    cost = cost_of([(0.0, Part(64, 9000, 1000.0)), (1.0, Part(64, 9000, 2000.0))])
    assert cost.fit.way.key == "place"
    step = [step_seconds(MODEL, H200, Split(), Load(3), 64, 200 + tokens / 2) for tokens in (1000, 2000)]
    prompts = 64 / 8 * prefill_seconds(MODEL, H200, Split(), Load(3), 200)
    seconds = [1000 * step[0] + prompts, 2000 * step[1] + prompts]
    assert [each.seconds for each in cost.lambdas] == pytest.approx(seconds)
    assert cost.all == pytest.approx(Total(128, 128 * 9000, 64 * 3000.0, sum(seconds) + 2 * cost.fit.switch))
    assert cost.hours(0.5) == pytest.approx(2 * cost.all.seconds / 3600)


def test_twice_the_responses_take_twice_the_time_and_twice_the_gpus_half():
    one, two = (cost_of([(0.5, Part(n, 9000, 1000.0))]) for n in (10_240, 20_480))
    assert two.lambdas[0].seconds == pytest.approx(2 * one.lambdas[0].seconds)
    pair = cost_of([(0.5, Part(20_480, 9000, 1000.0))], per_node=16)
    assert pair.gpus == 16 and pair.all.seconds < two.all.seconds / 8


def test_means_between_two_lambdas_are_interpolated():
    assert mean_tokens(0.25, [(1.0, 100.0), (0.0, 20.0), (0.5, 40.0)]) == 30.0
    assert mean_tokens(2.0, [(1.0, 100.0)]) == 100.0


def test_what_is_not_known_is_not_counted():
    parts = [Part(3, 10, 5.0), Part(2, 20, None), Part(0, 30, None)]
    assert total(parts, lambda part: 1.0) == Total(5, 70, None, None)
    assert total(parts[::2], None) == Total(3, 30, 15.0, None)
    assert total(parts[::2], lambda part: 2.0) == Total(3, 30, 15.0, 2.0)
    assert total(parts[2:], None) == Total(0, 0, 0.0, 0.0)
