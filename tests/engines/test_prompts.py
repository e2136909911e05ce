"""Texts and thoughts by the tokenizers of the built-in pair and of other families."""

import json

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from mull.checkpoints.tokenizer_files import TokenizerFiles
from mull.engines.local.prompts import Prompts
from mull.thinking import KNOWN, split_thinking
from mull.tiny import checkpoint_folder


@pytest.fixture(scope="module")
def prompts():
    return Prompts(checkpoint_folder("thinking"))


def count(prompts, text, finished=True):
    ids = prompts.tokenizer.encode(text, add_special_tokens=False)
    return prompts.thought_tokens(ids, prompts.text(ids), finished=finished), ids


@pytest.mark.parametrize(
    ("thought", "rest", "finished"),
    [
        ("12+3=15\n</think>", "\n\nThe answer is \\boxed{15}.", True),
        ("12+3=15\n</think>\n\nThe </think>", " answer", True),
        ("12+3=15\n</think>", "", False),
        ("12+3=15", "", False),
        ("", "The answer is \\boxed{15}.", True),
        ("12+3=15\n<tool_call>\n", "The answer is \\boxed{15}.", True),
    ],
)
@pytest.mark.parametrize("one_token", [True, False])
def test_the_thought_ends_with_its_closing_tag(prompts, thought, rest, finished, one_token, monkeypatch):
    """Also for a tokenizer whose closing tag is several tokens: then the text decides."""
    if not one_token:
        monkeypatch.setattr(prompts, "_close_ids", frozenset())
    found, ids = count(prompts, thought + rest, finished)
    assert prompts.text(ids[:found]).rstrip("\n") == thought.rstrip("\n")


def test_the_context_is_that_of_the_config(prompts):
    assert prompts.context == 1024 and prompts.stop_ids


def tokenizer_folder(folder, special, words=(), pieces=(), template=""):
    """A folder with a byte-level tokenizer: the tokens `special` marked so, `words` added ones, `pieces` merged."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: i for i, character in enumerate(alphabet)}
    merges = []
    for piece in pieces:
        for end in range(2, len(piece) + 1):
            if piece[:end] not in vocabulary:
                vocabulary[piece[:end]] = len(vocabulary)
                merges.append((piece[: end - 1], piece[end - 1]))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end of turn|>", "<|pad|>", *special])
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in words])
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end of turn|>", "pad_token": "<|pad|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**about, "chat_template": template}))
    config = {"model_type": "qwen3", "max_position_embeddings": 64, "vocab_size": 400, "hidden_size": 8}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


CHANNELS = ("<|start|>", "<|end|>", "<|message|>", "<|channel|>")
FAMILIES = {
    "Qwen3": (("<think>", "</think>"), {"words": ("<think>", "</think>")}),
    "Magistral": (("[THINK]", "[/THINK]"), {"special": ("[THINK]", "[/THINK]")}),
    "Seed-OSS": (("<seed:think>", "</seed:think>"), {"special": ("<seed:think>", "</seed:think>")}),
    "Gemma 4": (("<|channel>thought\n", "<channel|>"), {"special": ("<|channel>", "<channel|>")}),
    "gpt-oss": (
        ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
        {"special": CHANNELS},
    ),
    "Hunyuan": (("<think>\n", "\n</think>\n"), {"pieces": ("think", "</"), "template": "{{ '<think>' }}"}),
    "Granite 3.2": (
        ("Here is my thought process:", "Here is my response:"),
        {"template": "{{ 'Write after Here is my thought process: and after Here is my response: what you have' }}"},
    ),
    "EXAONE Deep": (("<thought>\n", "</thought>"), {"template": "{{ '<thought>\n' }}"}),
    "Kimi-VL": (("◁think▷", "◁/think▷"), {"pieces": ("think",), "template": "{{ '◁think▷' }}"}),
    "Apertus": (("<|inner_prefix|>", "<|inner_suffix|>"), {"special": ("<|inner_prefix|>", "<|inner_suffix|>")}),
    "Command A": (
        ("<|START_THINKING|>", "<|END_THINKING|>"),
        {"special": ("<|START_THINKING|>", "<|END_THINKING|>")},
    ),
    "a special <think>": (("<think>", "</think>"), {"special": ("<think>", "</think>")}),
}


@pytest.mark.parametrize("named", [True, False], ids=["named", "all known"])
@pytest.mark.parametrize("family", FAMILIES)
def test_delimiters_stay_in_the_text_and_are_counted(family, named, tmp_path):
    (open, close), form = FAMILIES[family]
    folder = tokenizer_folder(tmp_path / "model", **{"special": (), **form})
    files = TokenizerFiles(folder)
    tags = files.think_tags if named else KNOWN
    prompts = Prompts(folder, think_tags=tags)
    said = f"{open}maybe 5?{close}It is 4.<|end of turn|><|pad|>"
    ids = prompts.tokenizer.encode(said, add_special_tokens=False)
    text = prompts.text(ids)
    assert text == f"{open}maybe 5?{close}It is 4.", "delimiters stay, the marks of the turn's end go"
    split = split_thinking(text, finished=True, tags=tags)
    assert split[:3] == ("closed", "maybe 5?", "It is 4.")
    thought = len(prompts.tokenizer.encode(f"{open}maybe 5?{close}", add_special_tokens=False))
    assert prompts.thought_tokens(ids, text, finished=True) == thought - close.endswith("\n")
    assert (
        prompts.thought_tokens(ids[: thought // 2], prompts.text(ids[: thought // 2]), finished=False) == thought // 2
    )
    assert prompts.text(prompts.tokenizer.encode("It is 4.<|end of turn|>", add_special_tokens=False)) == "It is 4."


def test_a_thought_after_the_answer_is_counted(prompts):
    later = "<think>12+3=15</think>15"
    found, ids = count(prompts, f"{later}\n<think>\nor 16?", finished=False)
    known = len(prompts.tokenizer.encode("15\n", add_special_tokens=False))
    assert found == len(ids) - known
