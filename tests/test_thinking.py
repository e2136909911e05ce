"""The four kinds of thinking, told apart as in the interpolation paper's table 6, in the words of every family."""

import time
from pathlib import Path

import pytest

from mull.thinking import KNOWN, PLAIN, ThinkTags, named_tags, split_thinking

CHANNELS = "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>{}"


@pytest.mark.parametrize(
    ("text", "finished", "kind", "thought", "answer"),
    [
        ("2+2=4\n</think>\n\nIt is 4.", True, "closed", "2+2=4", "It is 4."),
        ("<think>\n2+2=4\n</think>\n\nIt is 4.", True, "closed", "2+2=4", "It is 4."),
        ("a</think>b</think>c", True, "closed", "a</think>b", "c"),
        ("2+2=4\n</think>\n\nIt is", False, "closed", "2+2=4", "It is"),
        ("It is 4.", True, "none", "", "It is 4."),
        ("", True, "none", "", ""),
        ("if a < b and b > c then 4", True, "none", "", "if a < b and b > c then 4"),
        ("<tool_call>\nsearch", True, "none", "", "<tool_call>\nsearch"),
        ("I wonder.\n<tool_call>\nIt is 4.", True, "pseudo-closed", "I wonder.", "It is 4."),
        ("I wonder.\n</answer>\nIt is 4.", True, "pseudo-closed", "I wonder.", "It is 4."),
        ("It is 4. In HTML:\n<div>\n4", True, "none", "", "It is 4. In HTML:\n<div>\n4"),
        ("use\n<h1>\nmaybe 12? no", False, "unclosed", "use\n<h1>\nmaybe 12? no", ""),
        ("<think>I wonder", False, "unclosed", "I wonder", ""),
        ("<think>I wonder.", True, "unclosed", "I wonder.", ""),
        ("I wonder and wonder", False, "unclosed", "I wonder and wonder", ""),
    ],
)
def test_kind_thought_and_answer(text, finished, kind, thought, answer):
    split = split_thinking(text, finished=finished)
    assert split[:3] == (kind, thought, answer)
    assert text[split.end :].strip() == answer, "what follows the thought is the answer"
    assert split.thought in text[: split.end]
    assert split_thinking(text, finished=finished, tags=PLAIN) == split


@pytest.mark.parametrize("tags", KNOWN, ids=str)
def test_the_thought_of_every_family_is_split_off(tags):
    text = f"{tags.open}\nperhaps 5\n{tags.close}\n\nIt is 4."
    for known in (KNOWN, (tags,)):
        assert split_thinking(text, finished=True, tags=known)[:3] == ("closed", "perhaps 5", "It is 4.")
    cut = f"{tags.open}\nperhaps 5"
    assert split_thinking(cut, finished=False).kind == "unclosed"
    assert split_thinking(cut, finished=True, tags=(tags,))[:3] == ("unclosed", "perhaps 5", "")


@pytest.mark.parametrize("tags", [tags for tags in KNOWN if " " not in tags.open and tags.open != "analysis"], ids=str)
def test_the_template_of_any_family_may_have_opened_the_thought(tags):
    text = f"perhaps 5\n{tags.close}\nIt is 4."
    if "final" in tags.close:  # a channel of its own: after text the thought has ended, at the head there was none
        for head in ("", "<|start|>assistant"):
            assert split_thinking(f"{head}{tags.close}It is 4.", finished=True)[:3] == ("none", "", "It is 4.")
    assert split_thinking(text, finished=True)[:3] == ("closed", "perhaps 5", "It is 4.")


@pytest.mark.parametrize(
    ("text", "finished", "answer", "thoughts"),
    [
        ("<think>5?</think>First 6.<think>no, 7</think>It is 4.", True, "It is 4.", ["5?", "no, 7"]),
        ("so </think> 5, or </think> It is 4.", True, "It is 4.", ["so", "5, or"]),
        ("<think>5?</think>It is 4.\n<think>or 5?", False, "It is 4.", ["5?", "or 5?"]),
        ("<think>5?</think>It is 4. <think>or 5?", True, "It is 4.", ["5?", "or 5?"]),
        ("<think>5?</think>It is 4.<think>really? yes</think>\n", True, "It is 4.", ["5?", "really? yes"]),
        ("It is 4.\n<think>or 5?</think>", True, "It is 4.", ["or 5?"]),
        ("It is 4.\n<think>or 5?", True, "It is 4.", ["or 5?"]),
        ("<think>5?</think> <think>5?</think> It is 4.", True, "It is 4.", ["5?"]),
        ("<think>\n5?\n</think>\n\n</think>\n\nIt is 4.", True, "It is 4.", ["5?"]),
        ("<think>5?\n</answer>\nIt is 4.\n<think>or 5?", True, "It is 4.", ["5?"]),
        ("[THINK]5?[/THINK]It is 4.[THINK]or 5?", False, "It is 4.", ["5?", "or 5?"]),
        (CHANNELS.format("5?", "It is 4."), True, "It is 4.", ["5?"]),
        (CHANNELS.format("5?<|end|><|start|>assistant<|channel|>analysis<|message|>6?", "It is 4.<|return|>"), True,
         "It is 4.", ["5?", "6?"]),
        (CHANNELS.format("5?", "It is 4.<|end|><|start|>assistant<|channel|>analysis<|message|>or 5?"), False,
         "It is 4.", ["5?", "or 5?"]),
    ],
)  # fmt: skip
def test_no_thought_is_part_of_the_answer(text, finished, answer, thoughts):
    split = split_thinking(text, finished=finished)
    assert split.answer == answer
    assert all(thought in split.thought for thought in thoughts)
    outside = text[split.end : split.tail]
    assert answer in outside and not any(thought in outside for thought in thoughts)


QUOTES = [
    "Mistral writes [THINK] before a thought and [/THINK] after it.",
    "Use `</think>` to close it, in code:\n```\nprint(text.split(</think>)[-1])\n```\nAs above.",
    "text.split(\"</think>\") and '</think>' give two parts.",
    "In EXAONE it is </thought>, in Kimi ◁/think▷; a channel is <|channel|>final<|message|>.",
]


@pytest.mark.parametrize("answer", QUOTES)
@pytest.mark.parametrize("thought", ["<think>hm, [/THINK]?</think>\n", "hm, [THINK] and [/THINK]\n</think>\n"])
def test_an_answer_may_speak_of_delimiters(thought, answer):
    for tags in (KNOWN, PLAIN):
        split = split_thinking(thought + answer, finished=True, tags=tags)
        assert (split.kind, split.answer) == ("closed", answer)


def test_a_direct_answer_may_speak_of_delimiters():
    for answer in (QUOTES[0], QUOTES[3]):
        assert split_thinking(answer, finished=True, tags=PLAIN)[:3] == ("none", "", answer)
    for answer in ("The tag <think> opens a thought.", "Write `<think>` or `</think>`.", "analysis of variance", "a `"):
        assert split_thinking(answer, finished=True)[:3] == ("none", "", answer)


def test_quotation_marks_of_thought_and_answer_do_not_hide_the_delimiter():
    assert split_thinking('<think>"so"</think>"4"', finished=True).answer == '"4"'
    assert split_thinking("<think>the ` key</think>4 ` 5", finished=True).answer == "4 ` 5"


@pytest.mark.parametrize(("open", "close"), [("<answer>", "</answer>"), ("<response>", "</response>")])
def test_tags_round_the_answer_are_no_part_of_it(open, close):
    assert split_thinking(f"<think>5?</think>\n{open}\n4\n{close}", finished=True).answer == "4"
    assert split_thinking(f"<think>5?</think>\n{open}\n4", finished=False).answer == "4"
    assert split_thinking(f"{open}\n4\n{close}", finished=True)[:3] == ("none", "", "4")
    assert split_thinking(f"4 is in {open}4{close}", finished=True).answer == f"4 is in {open}4{close}"


def test_delimiters_of_ones_own():
    tags = (ThinkTags("(((", ")))"),)
    assert split_thinking("(((<think>5?</think>)))4", finished=True, tags=tags).answer == "4"
    assert split_thinking("<think>5?</think>4", finished=True, tags=tags).kind == "none"


@pytest.mark.parametrize(
    ("template", "tokens", "names"),
    [
        ("{{ '<|im_start|>assistant\\n<think>\\n' }}", (), PLAIN),
        ("{% set content = content.split('</think>')[-1] %}", ("<think>", "</think>"), PLAIN),
        ("", ("[THINK]", "[/THINK]", "[INST]"), (ThinkTags("[THINK]", "[/THINK]"),)),
        ("", ("<|start|>", "<|end|>", "<|message|>", "<|channel|>"), tuple(t for t in KNOWN if "analysis<" in t.open)),
        ("{{ '<|channel>thought\\n<channel|>' }}", (), (ThinkTags("<|channel>thought", "<channel|>"),)),
        ("Think after 'Here is my thought process:', answer after 'Here is my response:'.", (), KNOWN[-4:-3]),
        ("an analysis of <|im_start|>", ("<|im_start|>", "<|im_end|>"), ()),
    ],
)
def test_a_models_files_name_its_delimiters(template, tokens, names):
    assert named_tags([template], tokens) == names


@pytest.mark.parametrize(
    "line",
    [
        "\n",
        " \n",
        "```python\n",
        "~~~ `\n",
        "<think>\n",
        "</think>\n",
        "`<",
        "'<think>'",
        "<|end|>",
        "<tool_call> ",
        "`<think>` ",
        "```\n<think>\n```\n",
    ],
)
def test_a_model_that_repeats_itself_costs_no_more(line):
    begun = time.process_time()
    for head in ("", "<think>5?</think>", "<think>"):
        split_thinking(head + line * (200_000 // len(line)) + "4", finished=True)
    assert time.process_time() - begun < 10


def test_the_table_in_the_docs_has_every_family():
    rows = (Path(__file__).parent.parent / "docs" / "thinking.md").read_text().replace("\\|", "|").splitlines()
    table = [row for row in rows if row.startswith("| `")]
    for tags in KNOWN:
        written = [part.replace("Here's", "Here is").removeprefix("<|end|><|start|>assistant") for part in tags]
        assert any(all(f"`{part}`" in row for part in written) for row in table), str(tags)
