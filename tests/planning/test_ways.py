"""Which way has room and which is proposed, on machines whose answer is known by hand."""

import pytest

from mull.planning.configs import find
from mull.planning.hardware import GPUS, Cluster
from mull.planning.ways import Traffic, beside, fit, fits, quantised, serving_way, smallest, sweep_way, without_plugins

WAYS = {
    way.key: way
    for way in (
        each.way
        for each in fits(
            find("Qwen3-4B"), Cluster(gpu=GPUS["B200"]), Traffic(prompt=1, tokens=1, concurrent=1, lambdas=1)
        )
    )
}


def machine(name="H200", per_node=1, nodes=1):
    return Cluster(gpu=GPUS[name], per_node=per_node, nodes=nodes)


def traffic(lambdas=4, concurrent=64, **more):
    return Traffic(**{"prompt": 500, "tokens": 4000, **more}, concurrent=concurrent, lambdas=lambdas)


def found(model, cluster, asked):
    return {each.way.key: each for each in fits(find(model), cluster, asked)}


@pytest.mark.parametrize(
    ("model", "cluster", "has_room"),
    [
        ("Qwen3-4B", machine("RTX4090"), {"merged", "row", "place-cpu", "local", "local-row", "adapters"}),
        ("Qwen3-4B", machine(), {"merged", "row", "place", "place-cpu", "local", "local-row", "adapters"}),
        ("Qwen3-30B-A3B", machine("RTX4090"), set()),
        ("Qwen3-30B-A3B", machine(), {"merged", "row", "place-cpu", "local", "local-row"}),
        ("Qwen3-30B-A3B", machine(per_node=8), {"merged", "row", "place", "place-cpu", "local", "local-row"}),
        ("Qwen3-235B-A22B", machine(), set()),
        ("Qwen3-235B-A22B", machine(per_node=8), {"merged", "row", "place-cpu"}),
        ("Qwen3-235B-A22B", machine(per_node=8, nodes=2), {"merged", "row", "place", "place-cpu"}),
        ("DeepSeek-V3", machine(per_node=8), {"merged"}),
        ("DeepSeek-V3", machine(per_node=8, nodes=2), {"merged", "place-cpu"}),
    ],
)
def test_ways_have_room_where_their_copies_fit(model, cluster, has_room):
    assert {key for key, each in found(model, cluster, traffic()).items() if not each.refused} == has_room


@pytest.mark.parametrize(
    ("model", "cluster", "asked", "way"),
    [
        ("Qwen3-4B", machine(), traffic(lambdas=1), "merged"),
        ("Qwen3-4B", machine(), traffic(), "row"),
        ("Qwen3-4B", machine("RTX4090"), traffic(), "row"),
        ("Qwen3-4B", machine(per_node=8), traffic(), "merged"),  # a replica for each λ
        ("Qwen3-4B", machine(per_node=8), traffic(lambdas=11), "row"),
        ("Qwen3-30B-A3B", machine(), traffic(), "row"),
        ("Qwen3-30B-A3B", machine(per_node=2), traffic(), "row"),
        ("Qwen3-30B-A3B", machine(per_node=4), traffic(), "merged"),
        ("DeepSeek-V3", machine(per_node=8), traffic(), "merged"),
        ("DeepSeek-V3", machine(), traffic(), None),
    ],
)
def test_the_proposed_way_serves_every_lambda_if_one_does(model, cluster, asked, way):
    best, why = serving_way(fits(find(model), cluster, asked), asked)
    assert (best and best.way.key) == way, why
    assert why


def test_the_reason_says_how_many_lambdas_there_is_room_for():
    asked = traffic()
    best, why = serving_way(fits(find("DeepSeek-V3"), machine(per_node=8), asked), asked)
    assert best.lambdas(4) == "1 of 4" and "room for 1 of 4 λ" in why
    places = found("Qwen3-30B-A3B", machine(), asked)
    assert places["place-cpu"].lambdas(4) == "in turns" and places["local-row"].lambdas(4) == "all"


def test_a_lambda_per_request_wins_from_three_on_where_reading_weights_is_all():
    asked = {n: traffic(lambdas=n, concurrent=12, prompt=1, tokens=2) for n in (1, 2, 3)}
    speed = {
        n: {key: each.requests_per_second for key, each in found("Qwen3-4B", machine(), asked[n]).items()}
        for n in asked
    }
    assert speed[1]["place"] > 1.9 * speed[1]["row"]
    assert speed[3]["place"] < speed[3]["row"] < speed[1]["place"]


def test_figures_of_turns_are_those_of_a_cycle():
    asked = traffic(lambdas=2, concurrent=8, prompt=1, tokens=100)
    place = found("Qwen3-4B", machine(), asked)["place"]
    alone = found("Qwen3-4B", machine(), traffic(lambdas=1, concurrent=4, prompt=1, tokens=100))["place"]
    assert place.step == alone.step  # four rows in each turn
    seconds = 100 * 2 * place.step + 2 * place.switch
    assert place.requests_per_second == pytest.approx(8 / seconds, rel=0.01)


def test_one_response_has_one_lambda_and_may_need_a_switch():
    asked = traffic(lambdas=4, concurrent=1, prompt=1, tokens=100)
    place = found("Qwen3-4B", machine(), asked)["place"]
    assert place.requests_per_second == pytest.approx(1 / (100 * place.step + place.switch), rel=0.01)
    alone = found("Qwen3-4B", machine(), traffic(lambdas=1, concurrent=1, prompt=1, tokens=100))["place"]
    assert alone.requests_per_second == pytest.approx(1 / (100 * place.step), rel=0.01)


def test_replicas_of_one_gpu_unless_more_are_faster_by_a_quarter():
    asked = traffic(lambdas=1, concurrent=None)
    assert str(found("Qwen3-4B", machine(per_node=8), asked)["row"].split) == "TP 1"
    assert str(found("Qwen3-30B-A3B", machine("H100", per_node=8), asked)["merged"].split) != "TP 1"  # 20 rows each


def test_more_responses_than_fit_wait():
    merged = found("Qwen3-4B", machine("RTX4090"), traffic(concurrent=10_000))["merged"]
    assert merged.batch == merged.rows < 20
    assert merged.requests_per_second == merged.requests_at_most


def test_one_response_keeps_one_replica_busy():
    one, two = (found("Qwen3-4B", machine(per_node=2), traffic(lambdas=1, concurrent=n))["place-cpu"] for n in (1, 2))
    assert one.replicas == two.replicas == 2
    assert two.requests_per_second == pytest.approx(2 * one.requests_per_second)


def test_the_smallest_machine_has_room_and_the_one_before_has_none():
    model, asked = find("Qwen3-235B-A22B"), traffic()
    least = smallest(WAYS["place"], model, machine(), asked)
    assert (least.per_node, least.nodes) == (8, 2)
    assert fit(WAYS["place"], model, machine(per_node=8), asked).refused
    assert smallest(WAYS["row"], model, machine(), asked).per_node == 8
    assert smallest(WAYS["adapters"], model, machine(), asked) is None
    assert smallest(WAYS["local"], model, machine(), asked) is None


def test_sweeps_go_on_in_place_and_quantised_pairs_from_checkpoints():
    asked = traffic(lambdas=1, concurrent=None)
    chosen = {
        model: sweep_way(fits(find(model), machine(per_node=8), asked)).way.key
        for model in ("Qwen3-4B", "Qwen3-235B-A22B", "DeepSeek-V3")
    }
    assert chosen == {"Qwen3-4B": "place", "Qwen3-235B-A22B": "place-cpu", "DeepSeek-V3": "merged"}
    assert sweep_way(fits(find("DeepSeek-V3"), machine(), asked)) is None


def test_quantised_pairs_are_mixed_in_bfloat16_and_served_in_fp8():
    model = find("DeepSeek-V3")
    held = {key: each.held for key, each in found("DeepSeek-V3", machine(), traffic()).items()}
    assert held["merged"] == model.weight_bytes() and held["place-cpu"] == 2 * model.total
    assert held["place"] == 6 * model.total
    assert "673 GB" in quantised(model)[0] and "1,342 GB each" in quantised(model)[0]
    assert quantised(find("Qwen3-4B")) == []


def test_what_stands_outside_the_gpus_is_named():
    ways = found("Qwen3-30B-A3B", machine(), traffic())
    assert beside(ways["place-cpu"], find("Qwen3-30B-A3B"), 4) == "CPU memory for both ends: 122 GB a replica"
    assert beside(ways["merged"], find("Qwen3-30B-A3B"), 4) == "disk for 4 merged checkpoints: 244 GB"
    assert beside(ways["local-row"], find("Qwen3-30B-A3B"), 4) == ""


def test_servers_without_plugins_get_adapters_where_another_way_is_proposed():
    ways, lams = list(found("Qwen3-4B", machine(), traffic()).values()), (0.0, 0.4, 0.8, 1.0)
    best, _ = serving_way(ways, traffic())
    assert best.way.key == "row"
    assert "mull extract-delta --rank 64 --levels 0.4,0.8,1)" in without_plugins(ways, best, lams)
    assert without_plugins(ways, best, (0.0,)) == ""
    merged = next(each for each in ways if each.way.key == "merged")
    assert without_plugins(ways, merged, lams) == ""
    experts = list(found("Qwen3-30B-A3B", machine(), traffic()).values())
    assert without_plugins(experts, serving_way(experts, traffic())[0], lams) == ""


def test_adapters_take_memory_for_each_lambda():
    model = find("Qwen3-4B")
    four, one = (found("Qwen3-4B", machine(), traffic(lambdas=n))["adapters"].held for n in (4, 1))
    # Rank 64 beside q, k, v, o, gate, up and down of 36 layers.
    sides = [2560 + 4096, 2 * (2560 + 1024), 4096 + 2560, 3 * (2560 + 9728)]
    assert four - one == pytest.approx(3 * 36 * 64 * 2 * sum(sides))
    assert one - model.weight_bytes() == pytest.approx(36 * 64 * 2 * sum(sides))
