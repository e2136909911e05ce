"""The built-in pair's tokenizer and chat templates: byte-level BPE with single-digit tokens, ChatML, think tags.

As in Qwen3, `<think>` and `</think>` are added tokens but not special ones, so that decoded text contains them.
"""

from __future__ import annotations

import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from training.corpus import Recipe, document

VOCABULARY = 416
PAD, START, END = SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
THINK = ("<think>", "</think>")
_SPLIT = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]|\s*[\r\n]+|\s+(?!\S)|\s+"

_TEMPLATE = """\
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == 'assistant' and '</think>' in content %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\nOPENING' }}
{%- endif %}"""


def chat_template(kind: str) -> str:
    """The ChatML template; that of Thinking ends with `<think>`, as Qwen3-Thinking-2507's does."""
    return _TEMPLATE.replace("OPENING", "<think>\\n" if kind == "thinking" else "")


def build_tokenizer() -> Tokenizer:
    """Train the tokenizer on base documents (deterministic)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    rng = random.Random(1)
    texts = ["".join(text for text, _ in document(rng, "base", Recipe())) for _ in range(4000)]
    for tag in SPECIAL + THINK:
        texts = [text.replace(tag, "") for text in texts]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL + THINK),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(tag, special=True, normalized=False) for tag in SPECIAL])
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in THINK])
    return tokenizer
