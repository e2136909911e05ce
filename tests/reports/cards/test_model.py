"""The model card: the hub's header for hub models, no private paths for local ones."""

import json
import re
import shutil

import yaml

from mull.checkpoints.checkpoint import Checkpoint
from mull.checkpoints.pair import Pair
from mull.merging.coefficients import Coefficients
from mull.merging.streaming.plan import plan_merge
from mull.reports.cards.model import model_card
from mull.tiny import checkpoint_folder


def card(instruct_name=None, thinking_name=None):
    sides = (("instruct", instruct_name), ("thinking", thinking_name))
    pair = Pair(*(Checkpoint(checkpoint_folder(kind), name) for kind, name in sides))
    return model_card(plan_merge(pair, Coefficients.scalar(0.8)), "mixed")


def test_hub_models_are_named_in_the_header():
    text = card("Qwen/Qwen3-4B-Instruct-2507", "Qwen/Qwen3-4B-Thinking-2507@main")
    header = text.split("---")[1]
    assert header.split("base_model:")[1].split() == [
        "-", "Qwen/Qwen3-4B-Instruct-2507", "-", "Qwen/Qwen3-4B-Thinking-2507", "base_model_relation:", "merge",
    ]  # fmt: skip
    assert "| λ | 0.8 |" in text


def test_findings_name_no_paths(tmp_path):
    other = tmp_path / "secret-place"
    shutil.copytree(checkpoint_folder("thinking"), other)
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append({**tokenizer["added_tokens"][-1], "id": 410, "content": "<more>"})
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    pair = Pair(Checkpoint(other), Checkpoint(checkpoint_folder("thinking")))
    text = model_card(plan_merge(pair, Coefficients.scalar(0.8)), "mixed")
    assert "1 token only on the Instruct side" in text
    assert str(tmp_path) not in text


def test_local_folders_give_their_name_only():
    text = card()
    assert "base_model" not in text
    assert "| Instruct | instruct |" in text
    assert str(checkpoint_folder("instruct").parent) not in text


def test_foreign_names_are_text_in_the_card(tmp_path):
    name = "x<script>|`\n```\nrm -rf: [a](b)"
    folder = shutil.copytree(checkpoint_folder("instruct"), tmp_path / name.replace("/", "."))
    pair = Pair(Checkpoint(folder), Checkpoint(checkpoint_folder("thinking")))
    text = model_card(plan_merge(pair, Coefficients.scalar(0.8)), name)
    assert "<script>" not in text.replace("\\<script\\>", "").split("## Provenance")[0]
    (provenance,) = re.findall(r"```yaml\n(.*?)\n```\n", text, flags=re.DOTALL)
    assert yaml.safe_load(provenance)["models"]["instruct"] == folder.name
    assert "\n```\nrm" not in text
