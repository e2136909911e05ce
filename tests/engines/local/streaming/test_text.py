"""Text in pieces is the text of the whole, for the kinds of tokenizers that there are."""

from __future__ import annotations

import random

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from mull.engines.local.prompts import clean_spaces
from mull.engines.local.streaming.text import WINDOW, TextStream

LETTERS = ["🙂", "é", "日本", "👩‍👩‍👧", " ", "the ", "a", "'", " n't", " .", "\n", "\ufffd"]
WORDS = ["▁", "a", "b", "▁a", "▁the", "th", "e", ".", "▁.", "'", "日", "▁'", "▁n", "'t", "\n"]


def byte_level():
    """As GPT-2, Qwen and Llama 3."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=["<end>"])
    tokenizer.train_from_iterator(["the theme of 日本 🙂 🙃"] * 5, trainer)
    return tokenizer


def byte_fallback():
    """As Llama 2, Mistral and Gemma: what is not in the vocabulary is written byte by byte."""
    vocabulary = {"<unk>": 0, "<end>": 1} | {f"<0x{byte:02X}>": byte + 2 for byte in range(256)}
    for word in WORDS:
        vocabulary.setdefault(word, len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True, unk_token="<unk>"))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_tokens([AddedToken("<think>"), AddedToken("</think>")])
    return tokenizer


def metaspace():
    """As T5: the first token's space is dropped."""
    words = [("<unk>", 0.0), *((word, -1.0) for word in WORDS)]
    tokenizer = Tokenizer(models.Unigram(words, unk_id=0))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return tokenizer


def word_piece():
    """As BERT: parts of words, and no spaces before punctuation."""
    words = ["[UNK]", "a", "##b", "hello", ".", ",", "'", "!", "n't", "##s", "do", "not", "'m", "##.", "?", "'re", "日"]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece(cleanup=True)
    return tokenizer


def words():
    words = ["[UNK]", "a", "hello", ".", "'", "!", "n't", "n", "s", "'m", "'t", "?", "'s", "'re", " ", "  ", " '", "x "]
    return Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))


def stream(tokenizer, bytes_too=True):
    def decode(ids):
        return tokenizer.decode(ids, clean_up_tokenization_spaces=False)

    names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    byte_ids = {i for i, name in enumerate(names) if name.startswith("<0x")} if bytes_too else set()
    return TextStream(decode, byte_ids=byte_ids, clean=clean_spaces if tokenizer.clean_up_tokenization_spaces else None)


def responses(tokenizer, count):
    drawn = random.Random(1)
    for number in range(count):
        length = drawn.choice([1, 3, 8, 30, 3 * WINDOW])
        if number % 2:
            text = "".join(drawn.choice(LETTERS) for _ in range(length))
            ids = tokenizer.encode(text, add_special_tokens=False)
        else:  # bytes that are no characters, too
            ids = [drawn.randrange(len(tokenizer)) for _ in range(length)]
        if ids:
            yield ids


@pytest.mark.parametrize("cleans", [False, True])
@pytest.mark.parametrize("kind", [byte_level, byte_fallback, metaspace, word_piece, words])
def test_pieces_are_the_whole(kind, cleans):
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=kind(), clean_up_tokenization_spaces=cleans and kind in (metaspace, word_piece, words)
    )
    for ids in responses(tokenizer, 400):
        text = stream(tokenizer)
        pieces = [text.push(i) for i in ids]
        whole = tokenizer.decode(ids)
        assert whole.startswith("".join(pieces))
        assert "".join(pieces) + text.finish(whole) == whole


def test_whole_characters_come_at_once():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level())
    text = stream(tokenizer)
    ids = tokenizer.encode("a👩b", add_special_tokens=False)
    assert [piece for i in ids if (piece := text.push(i))] == ["a", "👩", "b"] and len(ids) > 3


def test_a_run_of_bytes_is_decoded_as_a_whole():
    """One bad byte turns all bytes of its run into U+FFFD, so none of them may be given out before."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_fallback())
    euro, a = [0xE2 + 2, 0x82 + 2, 0xAC + 2], tokenizer.convert_tokens_to_ids("a")
    good, bad = stream(tokenizer), stream(tokenizer)
    assert [good.push(i) for i in (*euro, a)] == ["", "", "", "€a"]
    assert [bad.push(i) for i in (*euro, 0xE2 + 2, a)] == ["", "", "", "", "\ufffd" * 4 + "a"]
    hasty = stream(tokenizer, bytes_too=False)
    pieces = "".join(hasty.push(i) for i in (*euro, 0xE2 + 2, a))
    assert not tokenizer.decode([*euro, 0xE2 + 2, a]).startswith("€") and pieces.startswith("€")


def test_long_runs_of_bytes_that_are_no_text_cost_little():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level())
    decoded = []

    def decode(ids):
        decoded.append(len(ids))
        return tokenizer.decode(ids)

    text = TextStream(decode)
    half = tokenizer.convert_tokens_to_ids(tokenizer.tokenize("日"))[0]
    ids = [half] * 4000
    pieces = [text.push(i) for i in ids]
    assert sum(decoded) < 20 * len(ids)
    whole = tokenizer.decode(ids)
    assert "".join(pieces) + text.finish(whole) == whole
