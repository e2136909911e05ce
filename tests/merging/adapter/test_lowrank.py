"""The low-rank difference against a second implementation in numpy and float64."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mull.checkpoints.blocks import Buffer, Files
from mull.checkpoints.pair import Pair
from mull.errors import MullError
from mull.merging.adapter.lowrank import EXACT_SIDE, difference, factorise, plan_low_rank
from mull.merging.adapter.writing import CONFIG, WEIGHTS, adapter_config, extract, saved_whole
from mull.tiny import checkpoint_folder

PREFIX = "base_model.model."


@pytest.fixture(scope="module")
def tiny():
    pair = Pair.open(*(str(checkpoint_folder(kind)) for kind in ("instruct", "thinking")), donor="instruct")
    pair.check()
    return pair


@pytest.fixture
def small(two_sides):
    def open_pair(**options):
        pair = Pair.open(*map(str, two_sides(**options)), donor="instruct")
        pair.check()
        return pair

    return open_pair


def weights(folder):
    return {name: tensor.double().numpy() for name, tensor in load_file(folder / "model.safetensors").items()}


def products(folder):
    """B·A by module in float64."""
    stored = {name: tensor.double().numpy() for name, tensor in load_file(folder / WEIGHTS).items()}
    return {
        name.removeprefix(PREFIX).removesuffix(".lora_A.weight"): stored[name.replace("lora_A", "lora_B")] @ a
        for name, a in stored.items()
        if ".lora_A." in name
    }


def test_at_full_rank_the_adapter_is_thinking_to_rounding(tiny, tmp_path):
    plan = plan_low_rank(tiny, 1000, dtype="float32")
    fidelity = extract(plan, tmp_path / "out")
    instruct, thinking = weights(tiny.instruct.folder), weights(tiny.thinking.folder)
    found = products(tmp_path / "out")
    assert len(found) == 42
    for module, product in found.items():
        name = f"{module}.weight"
        delta = thinking[name] - instruct[name]
        assert np.linalg.norm(delta - product) < 1e-5 * np.linalg.norm(delta)
        rounded = torch.from_numpy(instruct[name] + product).bfloat16()
        assert (rounded.double().numpy() != thinking[name]).mean() < 1e-3
    assert fidelity.represented.relative_error < 1e-5
    config = adapter_config(plan)
    assert config["rank_pattern"] == config["alpha_pattern"] != {}  # every scale is alpha / r = 1


@pytest.mark.parametrize("rank", [1, 7, 32, 100])
def test_the_error_is_the_tail_of_the_singular_values(tiny, tmp_path, rank):
    fidelity = extract(plan_low_rank(tiny, rank, dtype="float32"), tmp_path / "out")
    instruct, thinking = weights(tiny.instruct.folder), weights(tiny.thinking.folder)
    for module, product in products(tmp_path / "out").items():
        name = f"{module}.weight"
        delta = thinking[name] - instruct[name]
        squares = np.linalg.svd(delta, compute_uv=False) ** 2
        loss, rounding = fidelity.factors[name], 1e-10 * squares.sum()
        assert np.linalg.norm(delta - product) ** 2 == pytest.approx(squares[rank:].sum(), rel=1e-4, abs=rounding)
        assert loss.error == pytest.approx(squares[rank:].sum(), rel=1e-4, abs=rounding)
        assert loss.kept == pytest.approx(squares[:rank].sum(), rel=1e-4)
        assert loss.delta == pytest.approx(squares.sum(), rel=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_figures_are_those_of_the_stored_factors(tiny, tmp_path, dtype):
    fidelity = extract(plan_low_rank(tiny, 64, dtype=dtype), tmp_path / "out")
    instruct, thinking = weights(tiny.instruct.folder), weights(tiny.thinking.folder)
    for module, product in products(tmp_path / "out").items():
        name = f"{module}.weight"
        error = np.linalg.norm(thinking[name] - instruct[name] - product) ** 2
        assert fidelity.factors[name].error == pytest.approx(error, rel=1e-4)
    assert {str(tensor.dtype) for tensor in load_file(tmp_path / "out" / WEIGHTS).values()} == {f"torch.{dtype}"}


def test_shares_and_the_whole_model_s_error_add_up(tiny, tmp_path):
    fidelity = extract(plan_low_rank(tiny, 16, layers=(1, 3), modules=["ffn"]), tmp_path / "out")
    instruct, thinking = weights(tiny.instruct.folder), weights(tiny.thinking.folder)
    found = {f"{module}.weight": product for module, product in products(tmp_path / "out").items()}
    assert len(found) == 9
    total = lost = 0.0
    for name, start in instruct.items():
        delta = thinking[name] - start
        total += (delta**2).sum()
        lost += ((delta - found.get(name, 0)) ** 2).sum()
    assert fidelity.total == pytest.approx(total, rel=1e-6)
    assert fidelity.whole_model_error == pytest.approx((lost / total) ** 0.5, rel=1e-4)
    assert set(fidelity.rest_shares()) == {"not selected"}
    assert set(fidelity.cells()) == {(layer, "ffn") for layer in (1, 2, 3)}


def test_randomized_factors_are_nearly_as_good_and_always_the_same():
    generator = torch.Generator().manual_seed(0)
    spectrum = torch.arange(1, 701) ** -0.5  # decays as slowly as the differences of fine-tuning
    u, v = (torch.linalg.qr(torch.randn(side, 700, generator=generator))[0] for side in (700, 900))
    delta = (u * spectrum) @ v.mT
    state = torch.get_rng_state()
    a, b, kept = factorise(delta, 32, "randomized", seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    best = (spectrum[32:].double() ** 2).sum().sqrt().item()
    assert (delta - b @ a).norm().item() < 1.002 * best
    assert kept <= (spectrum[:32].double() ** 2).sum().item() * (1 + 1e-5)
    again = factorise(delta, 32, "randomized", seed=3)
    assert torch.equal(a, again[0]) and torch.equal(b, again[1])


def test_large_matrices_are_randomized_unless_asked_otherwise(small, tensors_of):
    side = EXACT_SIDE + 1
    big = {"model.layers.0.mlp.down_proj.weight": torch.randn(side, side)}
    pair = small(instruct={"tensors": {**tensors_of(0), **big}}, thinking={"tensors": {**tensors_of(1), **big}})
    methods = {f.source.name: f.method for f in plan_low_rank(pair, 8).factors}
    assert [name for name, method in methods.items() if method == "randomized"] == list(big)
    assert {f.method for f in plan_low_rank(pair, 8, exact=True).factors} == {"exact"}
    assert {f.method for f in plan_low_rank(pair, side).factors} == {"exact"}


def test_the_same_command_gives_the_same_bytes(small, tmp_path, digests):
    pair = small()
    for name in ("a", "b"):
        extract(plan_low_rank(pair, 4), tmp_path / name)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_factors_are_balanced(tiny):
    tensor = next(t for t in tiny.tensors if t.name.endswith("0.self_attn.q_proj.weight"))
    with Files() as files:
        for side in (tiny.instruct, tiny.thinking):
            files.open(side.files[0])
        delta = difference(files, tensor, (Buffer(1 << 22), Buffer(1 << 22)))
    a, b, _ = factorise(delta, 8, "exact")
    torch.testing.assert_close(a @ a.mT, b.mT @ b, rtol=1e-3, atol=1e-5)


def test_a_side_that_is_cut_meanwhile(small, tmp_path, cut_when_seen):
    pair = small()
    cut_when_seen(pair.thinking.files[0])
    with pytest.raises(MullError, match="became shorter while it was read"):
        extract(plan_low_rank(pair, 4), tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_what_lora_cannot_hold_is_named(small, tensors_of):
    more = {
        "model.layers.0.self_attn.q_proj.bias": torch.zeros(16),
        "model.layers.0.mlp.gate.weight": torch.zeros(4, 16),
        "model.layers.0.mlp.experts.gate_up_proj": torch.zeros(4, 16, 16),
        "model.layers.0.mlp.steps": torch.zeros(3, dtype=torch.int64),
    }
    pair = small(instruct={"tensors": {**tensors_of(0), **more}}, thinking={"tensors": {**tensors_of(1), **more}})
    plan = plan_low_rank(pair, 4)
    reasons = {rest.source.name: rest.reason for rest in plan.rest}
    assert {factors.module.rpartition(".")[2] for factors in plan.factors} == {"q_proj", "up_proj"}
    assert reasons["model.layers.0.self_attn.q_proj.bias"] == "bias"
    assert reasons["model.layers.0.mlp.gate.weight"] == "router"
    assert reasons["model.layers.0.mlp.experts.gate_up_proj"] == "3-D tensor"
    assert reasons["model.embed_tokens.weight"] == "embedding"
    assert reasons["model.layers.0.self_attn.q_norm.weight"] == reasons["model.norm.weight"] == "norm"
    assert "model.layers.0.mlp.steps" not in reasons
    assert "model.layers.0.self_attn.q_proj.bias" not in {rest.source.name for rest in saved_whole(plan)}


def test_targets_are_short_names_unless_they_would_reach_too_far(small):
    pair = small()
    assert adapter_config(plan_low_rank(pair, 4))["target_modules"] == ["q_proj", "up_proj"]
    only = adapter_config(plan_low_rank(pair, 4, layers=(1, 1), modules=["ffn"]))
    assert only["target_modules"] == ["model.layers.1.mlp.up_proj"]


def test_padding_rows_of_an_untied_head_stay_the_instruct_s(small, tensors_of, tmp_path):
    heads = [
        {**tensors_of(seed, rows=rows), "lm_head.weight": torch.randn(rows, 16)} for seed, rows in ((0, 24), (1, 20))
    ]
    sides = [
        {"tensors": tensors, "tie_word_embeddings": False, "vocab_size": len(tensors["lm_head.weight"])}
        for tensors in heads
    ]
    pair = small(instruct=sides[0], thinking=sides[1])
    extract(plan_low_rank(pair, 16, modules=["lm_head"], dtype="float32"), tmp_path / "out")
    (product,) = products(tmp_path / "out").values()
    assert np.allclose(product[20:], 0, atol=1e-6)
    wanted = (heads[1]["lm_head.weight"] - heads[0]["lm_head.weight"][:20]).numpy()
    assert np.allclose(product[:20], wanted, atol=1e-5)


def test_equal_checkpoints_give_an_empty_adapter_without_nan(small, tensors_of, tmp_path):
    same = {"tensors": tensors_of(0)}
    fidelity = extract(plan_low_rank(small(instruct=same, thinking=same), 4), tmp_path / "out")
    assert fidelity.total == 0
    assert "NaN" not in (tmp_path / "out" / "mull.json").read_text()


def test_nan_is_refused_and_leaves_nothing(small, tensors_of, tmp_path):
    broken = tensors_of(1)
    broken["model.norm.weight"][3] = float("nan")
    pair = small(thinking={"tensors": broken})
    with pytest.raises(MullError, match=r"model\.norm\.weight holds NaN"):
        extract(plan_low_rank(pair, 4), tmp_path / "out")
    assert not [path.name for path in tmp_path.iterdir() if "out" in path.name]


def test_an_interrupted_run_leaves_nothing(tiny, tmp_path):
    def stop(nbytes):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(plan_low_rank(tiny, 4), tmp_path / "out", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_only_an_adapter_is_overwritten(small, tmp_path):
    pair, out = small(), tmp_path / "out"
    out.mkdir()
    (out / "config.json").write_text("{}")
    save_file({"x": torch.zeros(1)}, out / "model.safetensors")
    with pytest.raises(MullError, match="exists"):
        extract(plan_low_rank(pair, 4), out)
    with pytest.raises(MullError, match="not an adapter folder"):
        extract(plan_low_rank(pair, 4), out, overwrite=True)
    (out / "config.json").rename(out / CONFIG)
    extract(plan_low_rank(pair, 4), out, overwrite=True)
    assert {path.name for path in out.iterdir()} == {CONFIG, WEIGHTS, "mull.json"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank must be at least 1, got 0"),
        ({"rank": 4, "dtype": "int8"}, "unknown dtype"),
        ({"rank": 4, "modules": ["norm"]}, "no weight of a linear layer"),
        ({"rank": 4, "layers": (7, 9)}, "reach beyond the model"),
    ],
)
def test_wrong_settings_are_refused(small, options, message):
    with pytest.raises(MullError, match=message):
        plan_low_rank(small(), **options)


def test_experts_cannot_be_clipped(small, tensors_of):
    more = {"model.layers.0.mlp.experts.0.up_proj.weight": torch.zeros(8, 16)}
    pair = small(instruct={"tensors": {**tensors_of(0), **more}}, thinking={"tensors": {**tensors_of(1), **more}})
    assert len(plan_low_rank(pair, 8).factors) == 5
    with pytest.raises(MullError, match="rank 9 is above the smaller side of the experts, 8"):
        plan_low_rank(pair, 9)


def test_the_donor_must_be_the_base_model(two_sides):
    with pytest.raises(MullError, match="laid out like its base model"):
        plan_low_rank(Pair.open(*map(str, two_sides())), 4)
