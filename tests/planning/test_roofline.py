"""Bounds of time against arithmetic by hand."""

from dataclasses import replace

import pytest

from mull.planning.configs import find
from mull.planning.hardware import GPUS, Cluster, gpu_named
from mull.planning.roofline import (
    MOST_ROWS,
    Load,
    Split,
    prefill_seconds,
    room,
    rows_that_fit,
    splits,
    step_seconds,
    switch_seconds,
)

SMALL, BIG = find("Qwen3-4B"), find("Qwen3-30B-A3B")
MEASURED = replace(GPUS["H200"], bandwidth=4.3e12)
"""An H200 with the bandwidth that copies reach on it."""


def test_a_switch_moves_six_bytes_per_parameter():
    assert switch_seconds(SMALL, MEASURED, Split(), True) == pytest.approx(24.1e9 / 4.3e12, rel=0.01)  # 5.6 ms
    assert switch_seconds(BIG, MEASURED, Split(), True) == pytest.approx(0.043, rel=0.01)
    assert switch_seconds(BIG, MEASURED, Split(4, 2), True) == pytest.approx(0.043 / 8, rel=0.01)


def test_ends_in_cpu_memory_come_over_the_bus():
    assert switch_seconds(SMALL, MEASURED, Split(), False) == pytest.approx(2 * 8.045e9 / 64e9, rel=0.001)
    slow = replace(MEASURED, bandwidth=1e9)  # then the memory of the GPU decides
    assert switch_seconds(SMALL, slow, Split(), False) == switch_seconds(SMALL, slow, Split(), True)


def test_a_small_batch_is_bound_by_reading_weights_once_or_twice():
    plain = step_seconds(SMALL, MEASURED, Split(), Load(), 1, 0)
    assert plain == pytest.approx(1.87e-3, rel=0.01)
    assert step_seconds(SMALL, MEASURED, Split(), Load(2, 2), 1, 0) == pytest.approx(2 * plain)
    assert step_seconds(SMALL, MEASURED, Split(2), Load(), 1, 0) == pytest.approx(plain / 2)
    # The keys and values of 100 tokens of 8 rows, read beside the weights.
    more = 8 * 100 * 147_456 / 4.3e12
    assert step_seconds(SMALL, MEASURED, Split(), Load(), 8, 100) == pytest.approx(plain + more)


def test_a_large_batch_is_bound_by_arithmetic_and_twice_for_two_ends():
    rows = 4000
    once = step_seconds(SMALL, MEASURED, Split(), Load(), rows, 0)
    matrices = SMALL.total - SMALL.norms
    assert once == pytest.approx(2 * matrices * rows / 989.5e12)
    assert step_seconds(SMALL, MEASURED, Split(), Load(2, 2), rows, 0) == pytest.approx(2 * once)


def test_tensor_parallelism_pays_for_its_links():
    slow = replace(MEASURED, link=1e9)
    # 36 layers × 2 sums × 64 rows × 2560 × 2 bytes, of which a ring of two sends each once.
    assert step_seconds(SMALL, slow, Split(2), Load(), 64, 0) == pytest.approx(36 * 2 * 64 * 2560 * 2 / 1e9)


def test_stages_work_on_groups_of_the_rows_in_turn():
    one = step_seconds(SMALL, MEASURED, Split(1, 1), Load(), 8, 500)
    assert step_seconds(SMALL, MEASURED, Split(1, 4), Load(), 32, 500) == pytest.approx(one)


def test_a_few_rows_of_a_mixture_read_a_few_experts():
    one, many = (step_seconds(BIG, MEASURED, Split(), Load(), rows, 0) for rows in (1, 256))
    assert one == pytest.approx(2 * (BIG.active() - 151_936 * 2048) / 4.3e12)
    assert many == pytest.approx(2 * (BIG.total - 151_936 * 2048) / 4.3e12, rel=1e-3)


def test_rows_fit_beside_the_weights_of_all_copies():
    gpu = GPUS["RTX4090"]
    left = 0.9 * 24e9 - 2e9 - 2 * SMALL.weight_bytes()
    assert room(SMALL, gpu, Split(), Load(2, 2)) == pytest.approx(left)
    assert rows_that_fit(SMALL, gpu, Split(), Load(2, 2), 4500) == int(left // (4500 * 147_456))
    assert rows_that_fit(BIG, gpu, Split(), Load(), 10) == 0
    assert rows_that_fit(SMALL, GPUS["B200"], Split(), Load(), 10) == MOST_ROWS


def test_whole_heads_are_divided_and_a_latent_is_not():
    assert [BIG.kv_parts(n) for n in (1, 2, 4, 8)] == [1, 2, 4, 4]
    assert find("DeepSeek-V3").kv_parts(8) == 1


def test_a_prompt_takes_its_operations():
    # Two for each weight but those of the head, and attention over 500 tokens before it on average: 32 heads of 128.
    each = 2 * (SMALL.total - SMALL.norms - 151_936 * 2560) + 4 * 36 * 32 * 128 * 500
    expected = 1000 * each / (4 * 989.5e12)
    assert prefill_seconds(SMALL, MEASURED, Split(2, 2), Load(), 1000) == pytest.approx(expected)


def test_fp8_is_computed_in_sixteen_bits_where_there_is_no_fp8():
    model, rows = find("DeepSeek-V3"), 100_000
    fast, slow = (step_seconds(model, GPUS[name], Split(), Load(), rows, 0) for name in ("H100", "A100"))
    assert slow / fast == pytest.approx(1979 / 312)


def layouts(per_node, nodes=1):
    return {
        str(split): replicas for split, replicas in splits(SMALL, Cluster(gpu=MEASURED, per_node=per_node, nodes=nodes))
    }


def test_splits_keep_a_tensor_group_within_its_node():
    assert layouts(1) == {"TP 1": 1}
    assert layouts(8) == {"TP 1": 8, "TP 2": 4, "TP 4": 2, "TP 8": 1}
    assert layouts(8, 2)["TP 8 PP 2"] == 1 and layouts(8, 2)["TP 4"] == 4 and "TP 4 PP 2" not in layouts(8, 2)
    assert layouts(6)["TP 2 PP 3"] == 1  # four GPUs would leave two over
    assert "TP 64" not in layouts(64)  # 32 heads


def test_gpus_are_found_in_any_case():
    assert gpu_named("rtx4090") is GPUS["RTX4090"]
