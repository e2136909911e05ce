from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mull.checkpoints.headers import layout_header
from mull.checkpoints.pair import Pair, Side
from mull.errors import MullError, Refused
from mull.merging.coefficients import Coefficients
from mull.merging.streaming.plan import plan_merge
from mull.thinking import ThinkTags

TwoSides = Callable[..., Any]
TOKENS = [f"token{i}" for i in range(20)]


def findings(two_sides: TwoSides, donor: Side = "thinking", **options: Any) -> dict[str, str]:
    """Code → severity of everything that is not the same."""
    sides = two_sides(**options)
    return {f.code: f.severity for f in Pair.open(*map(str, sides), donor=donor).findings() if f.severity != "same"}


def test_a_plain_pair_differs_in_its_template_only(two_sides: TwoSides) -> None:
    assert findings(two_sides, thinking={"shards": 2}) == {"chat-template": "warn"}


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"eos_token_id": [3, 4]}, "eos"),
        ({"generation": {"temperature": 0.6, "eos_token_id": 5}}, "eos"),
        ({"pad_token_id": 1}, "pad"),
        ({"max_position_embeddings": 8192}, "max-positions"),
        ({"generation": {"temperature": 0.7}}, "generation-config"),
        ({"tokens": [*TOKENS, "new"]}, "extra-tokens"),
    ],
)
def test_differences_that_only_warn(two_sides: TwoSides, options: dict[str, Any], code: str) -> None:
    found = findings(two_sides, thinking=options)
    assert found == {"chat-template": "warn", code: "warn"}


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"rope_theta": 1000000}, "rope"),
        ({"rope_scaling": {"type": "yarn", "factor": 4}}, "rope"),
        ({"num_attention_heads": 8}, "config"),
        ({"num_key_value_heads": 4}, "config"),
        ({"rms_norm_eps": 1e-5}, "config"),
        ({"hidden_act": "gelu"}, "config"),
        ({"model_type": "llama"}, "architecture"),
        ({"architectures": ["Qwen3ForSequenceClassification"]}, "architecture"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"tokens": [*TOKENS[:7], "other", *TOKENS[8:]]}, "tokens"),
        ({"tokens": [f"token{i}" for i in range(25)]}, "vocabulary"),
    ],
)
def test_differences_that_refuse(two_sides: TwoSides, options: dict[str, Any], code: str) -> None:
    found = findings(two_sides, thinking=options)
    assert found[code] == "refuse"
    assert [c for c, severity in found.items() if severity == "refuse"] == [code]


def test_a_config_without_architectures_is_no_difference(two_sides: TwoSides) -> None:
    assert findings(two_sides, thinking={"drop": ("architectures",)}) == {"chat-template": "warn"}


def test_dtypes_differ(two_sides: TwoSides, tensors_of: Callable[..., dict]) -> None:
    assert findings(two_sides, thinking={"tensors": tensors_of(1, torch.float32)})["dtype"] == "warn"


def test_tensors_and_shapes(two_sides: TwoSides, tensors_of: Callable[..., dict]) -> None:
    tensors = tensors_of(1)
    tensors["model.norm.bias"] = tensors.pop("model.norm.weight")
    tensors["model.layers.1.mlp.up_proj.weight"] = torch.zeros(16, 32, dtype=torch.bfloat16)
    sides = two_sides(thinking={"tensors": tensors})
    with pytest.raises(Refused) as refused:
        Pair.open(*map(str, sides)).check(allow={"config"})
    assert "the Thinking side lacks 1 tensor: model.norm.weight" in str(refused.value)
    assert "the Instruct side lacks 1 tensor: model.norm.bias" in str(refused.value)
    assert "[32, 16] and [16, 32]" in str(refused.value)


@pytest.mark.parametrize("config", [{}, {"quantization_config": {"quant_method": "fp8"}}])
def test_fp8_with_its_scales(two_sides: TwoSides, tensors_of: Callable[..., dict], config: dict[str, Any]) -> None:
    tensors = tensors_of(1)
    name = "model.layers.0.mlp.up_proj.weight"
    tensors[name] = tensors[name].to(torch.float8_e4m3fn)
    tensors[name + "_scale_inv"] = torch.ones(1, 1)
    assert findings(two_sides, thinking={"tensors": tensors, **config})["quantised"] == "refuse"


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8])
def test_integer_weights_are_quantised(two_sides: TwoSides, tensors_of: Callable[..., dict], kind: torch.dtype) -> None:
    tensors = tensors_of(1)
    tensors["model.norm.weight"] = torch.ones(16, dtype=kind)
    assert findings(two_sides, thinking={"tensors": tensors})["quantised"] == "refuse"


def test_an_integer_buffer_warns_and_must_be_one_on_both_sides(two_sides: TwoSides, tensors_of: Callable) -> None:
    with_buffer = [{**tensors_of(seed), "model.steps": torch.tensor([seed])} for seed in (0, 1)]
    found = findings(two_sides, instruct={"tensors": with_buffer[0]}, thinking={"tensors": with_buffer[1]})
    assert found == {"chat-template": "warn", "integers": "warn"}


def test_floating_on_one_side_only(two_sides: TwoSides, tensors_of: Callable[..., dict]) -> None:
    sides = [{**tensors_of(0), "model.steps": torch.zeros(1, dtype=kind)} for kind in (torch.int64, torch.float32)]
    assert findings(two_sides, instruct={"tensors": sides[0]}, thinking={"tensors": sides[1]})["floating"] == "refuse"


@pytest.mark.parametrize(
    ("tokens", "code", "severity"),
    [(20, "padding", "warn"), (24, "padding", "warn"), (25, "padding", "refuse")],
)
def test_padded_vocabularies(
    two_sides: TwoSides, tensors_of: Callable[..., dict], tokens: int, code: str, severity: str
) -> None:
    options = {"tensors": tensors_of(1, rows=32), "tokens": [f"token{i}" for i in range(tokens)], "vocab_size": 32}
    assert findings(two_sides, thinking=options)[code] == severity


def test_padding_needs_a_tokenizer(two_sides: TwoSides, tensors_of: Callable[..., dict]) -> None:
    sides = two_sides(thinking={"tensors": tensors_of(1, rows=32)})
    (sides[1] / "tokenizer.json").unlink()
    pair = Pair.open(*map(str, sides))
    with pytest.raises(Refused, match="which are padding"):
        pair.check()


@pytest.mark.parametrize(("donor", "severity"), [("thinking", "warn"), ("instruct", "refuse")])
def test_one_side_is_tied(two_sides: TwoSides, tensors_of: Callable, donor: Side, severity: str) -> None:
    tensors = {**tensors_of(1), "lm_head.weight": torch.ones(24, 16, dtype=torch.bfloat16)}
    found = findings(two_sides, donor, thinking={"tensors": tensors, "tie_word_embeddings": False})
    assert found == {"chat-template": "warn", "tied": severity}


def test_a_tied_side_that_stores_a_copy_as_head(two_sides: TwoSides, tensors_of: Callable[..., dict]) -> None:
    tensors = tensors_of(1)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    sides = two_sides(thinking={"tensors": tensors})
    pair = Pair.open(*map(str, sides))
    assert {f.code: f.remedy for f in pair.check()}["stored-head"] == "the copy is left out"
    assert pair.thinking.tied
    assert "lm_head.weight" not in {t.name for t in pair.tensors}


@pytest.mark.parametrize("change", ["one element", "dtype", "rows", "all"])
def test_a_tied_side_that_stores_another_head(
    two_sides: TwoSides, tensors_of: Callable[..., dict], change: str
) -> None:
    tensors = tensors_of(1)
    head = tensors["model.embed_tokens.weight"].clone()
    if change == "one element":
        head[-1, -1] += 1
    tensors["lm_head.weight"] = {"dtype": head.float(), "rows": head[:-2].clone(), "all": head + 1}.get(change, head)
    pair = Pair.open(*map(str, two_sides(thinking={"tensors": tensors})))
    assert not pair.thinking.tied and pair.instruct.tied
    found = {f.code: (f.severity, f.what) for f in pair.findings()}
    assert found["stored-head"] == (
        "warn",
        "the Thinking side's config ties its output head to its embedding, but it stores another head",
    )
    assert found["tied"][0] == "warn"
    [aligned] = [t for t in pair.tensors if t.name == "lm_head.weight"]
    assert aligned.instruct == pair.instruct.embedding and aligned.thinking == pair.thinking.tensors["lm_head.weight"]
    other = Pair.open(*map(str, (pair.instruct.folder, pair.thinking.folder)), donor="instruct")
    with pytest.raises(Refused, match="is the donor and ties its head"):
        other.check()


def test_the_same_folder_twice(two_sides: TwoSides) -> None:
    side, _ = map(str, two_sides())
    assert [f.code for f in Pair.open(side, side).check()] == ["same-folder"]


def test_swapped_sides(two_sides: TwoSides) -> None:
    instruct, thinking = map(str, two_sides())
    assert "swapped" in {f.code for f in Pair.open(thinking, instruct).check()}
    assert "swapped" not in {f.code for f in Pair.open(instruct, thinking).check()}


def test_what_may_be_allowed_becomes_a_warning(two_sides: TwoSides) -> None:
    pair = Pair.open(*map(str, two_sides(thinking={"rope_theta": 10000})))
    with pytest.raises(Refused, match="--allow rope"):
        pair.check(allow={"config"})
    assert "rope" in {f.code for f in pair.check(allow={"rope"})}


def test_a_quantised_side_cannot_be_allowed(two_sides: TwoSides) -> None:
    sides = two_sides(thinking={"quantization_config": {"quant_method": "awq"}})
    with pytest.raises(MullError, match="'quantised' is no refusal that can be overruled"):
        Pair.open(*map(str, sides)).check(allow={"quantised"})
    with pytest.raises(Refused, match="quantised"):
        Pair.open(*map(str, sides)).check(allow={"rope"})


def test_a_base_is_compared_by_its_weights_only(
    two_sides: TwoSides, write_checkpoint: Callable, tmp_path: Path
) -> None:
    tensors = {"model.norm.weight": torch.ones(16)}
    sides = two_sides()
    base = write_checkpoint(tmp_path / "base", tensors, template=None, eos_token_id=9, rope_theta=1.0)
    found = {
        f.code: f for f in Pair.open(str(sides[0]), str(sides[1]), str(base)).findings() if f.what.startswith("Base: ")
    }
    assert set(found) == {"layers", "tensors", "dtype", "rope"}
    assert found["rope"].severity == "warn"


def test_the_delimiters_of_thoughts_are_named(two_sides: TwoSides) -> None:
    tokens = [f"token{i}" for i in range(18)] + ["[THINK]", "[/THINK]"]
    template = "{{ '<|im_start|>assistant' }}"
    side = {"template": template, "tokens": tokens}
    pair = Pair.open(*map(str, two_sides(instruct=side, thinking={**side, "template": template + "[THINK]"})))
    said = {finding.code: finding.what for finding in pair.findings()}
    assert said["think-tags"] == "thought is marked by [THINK] … [/THINK]"
    assert said["chat-template"].endswith("the Instruct side opens no thought, the Thinking side opens [THINK]")
    assert pair.think_tags == (ThinkTags("[THINK]", "[/THINK]"),)


def test_without_named_delimiters_all_known_ones_count(two_sides: TwoSides) -> None:
    pair = Pair.open(*map(str, two_sides(instruct={"template": None}, thinking={"template": None})))
    assert "all known ones" in next(f.what for f in pair.findings() if f.code == "think-tags")


def test_twenty_thousand_tensors_are_checked_and_planned(two_sides: TwoSides) -> None:
    """Takes a second; in time quadratic in their number it took half a minute (`perf/tensors.py` measures)."""
    names = [f"model.layers.{i // 400}.mlp.experts.{i % 400}.up_proj.weight" for i in range(20_000)]
    header, spans = layout_header([(name, "BF16", (1,)) for name in names])
    sides = two_sides({"shards": 1}, {"shards": 1})
    for side in sides:
        (side / "model.safetensors").write_bytes(header + bytes(2 * len(spans)))
    pair = Pair.open(*map(str, sides))
    pair.check()
    plan = plan_merge(pair, Coefficients.scalar(0.5))
    assert len(plan.shards[0].tensors) == 20_000
