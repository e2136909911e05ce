"""Compares two checkpoints: every check that decides whether they can be mixed.

Reads headers, configs and tokenizer files. Of tensor data it reads only an output head stored beside a tied config.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from mull.checkpoints.checkpoint import EMBEDDINGS, HEAD, Checkpoint
from mull.checkpoints.config import rope, structure, text_config, token_ids
from mull.checkpoints.headers import FLOATING, TensorInfo
from mull.thinking import KNOWN, ThinkTags
from mull.words import counted

Severity = Literal["refuse", "warn", "same"]

CAN_ALLOW = {"rope", "config", "tokens", "vocabulary", "non-finite"}
"""Codes of refusals that users may overrule: the weights can be mixed, but the result may not make sense.

"non-finite" is found by those who read the weights: `mull inspect` and the merge."""
_QUANTISED_NAMES = (
    ".weight_scale", ".weight_scale_inv", ".weight_packed", ".qweight", ".qzeros",
    ".scales", ".g_idx", ".SCB", ".absmax",
)  # fmt: skip
_SMALL_FLOATS = ("F8", "F6", "F4")


class Finding(NamedTuple):
    """One result of comparing two checkpoints."""

    severity: Severity
    code: str
    """Stable short name, e.g. "rope"."""
    what: str
    """One sentence with both values."""
    remedy: str = ""


def find(instruct: Checkpoint, thinking: Checkpoint, donor: Checkpoint, *, base: bool = False) -> list[Finding]:
    """Compare the two sides. With `base`, `instruct` is the base of task vectors: only its weights are used."""
    found = [*_architecture(instruct, thinking), *_quantised(instruct, thinking)]
    if found[0].severity != "refuse":
        found += [*_tensors(instruct, thinking, donor), *_dtypes(instruct, thinking)]
        found += _rope(instruct, thinking, severity="warn" if base else "refuse")
        if not base:
            found += [*_tokens(instruct, thinking), *_behaviour(instruct, thinking), *_sides(instruct, thinking)]
    return found


def _architecture(a: Checkpoint, b: Checkpoint) -> Iterator[Finding]:
    kinds = [text_config(side.config).get("model_type") or "unknown" for side in (a, b)]
    classes = [side.config.get("architectures") for side in (a, b)]
    names = [", ".join(map(str, c)) if isinstance(c, list) else kind for c, kind in zip(classes, kinds, strict=True)]
    if kinds[0] != kinds[1] or (all(classes) and names[0] != names[1]):  # a bare config names no class
        yield Finding(
            "refuse",
            "architecture",
            f"different architectures: {names[0]} ({kinds[0]}) and {names[1]} ({kinds[1]})",
            "give two checkpoints of one model",
        )
        return
    yield Finding(
        "same", "architecture", f"architecture {names[1]}, {b.layers} layers, {b.parameters / 1e6:,.1f} M parameters"
    )
    for side in (a, b):
        stated = text_config(side.config).get("num_hidden_layers")
        if isinstance(stated, int) and stated > side.layers:
            what = f"the config of {_label(side, a)} names {stated} layers, its weights have {side.layers}"
            yield Finding("refuse", "layers", what, "use the config this checkpoint was saved with")
    left, right = structure(a.config), structure(b.config)
    different = sorted(key for key in left.keys() | right.keys() if left.get(key) != right.get(key))
    if different:
        shown = ", ".join(f"{key} {left.get(key)!r} and {right.get(key)!r}" for key in different[:4])
        more = f" and {len(different) - 4} more" if len(different) > 4 else ""
        yield Finding("refuse", "config", f"the configs differ in {shown}{more}", "give two checkpoints of one model")
    else:
        yield Finding("same", "config", "all structural config entries agree")


def _quantised(a: Checkpoint, b: Checkpoint) -> Iterator[Finding]:
    for side in (a, b):
        stated = text_config(side.config).get("quantization_config")
        tensor = next((info for info in side.tensors.values() if _is_quantised(info)), None)
        if stated or tensor:
            method = stated.get("quant_method") if isinstance(stated, dict) else stated
            sign = f"{tensor.name} is {tensor.dtype}" if tensor else f"quantization_config {method!r}"
            yield Finding(
                "refuse",
                "quantised",
                f"{_label(side, a)} is quantised ({sign}): its stored values are not the weights",
                "use the unquantised (bfloat16) release of this checkpoint",
            )


def _tensors(a: Checkpoint, b: Checkpoint, donor: Checkpoint) -> Iterator[Finding]:
    names = {side: set(side.tensors) for side in (a, b)}
    if a.tied != b.tied:
        tied, untied = (a, b) if a.tied else (b, a)
        if donor.tied:
            yield Finding(
                "refuse",
                "tied",
                f"{_label(tied, a)} is the donor and ties its head to the embedding, {_label(untied, a)} does not",
                "take the untied side as donor, or untie the other",
            )
        else:
            yield Finding(
                "warn",
                "tied",
                f"{_label(tied, a)} ties its output head to the embedding, {_label(untied, a)} does not",
                "the result is untied; the tied side's head is its embedding",
            )
    for side in (a, b):
        if side.has_other_head:
            what = f"{_label(side, a)}'s config ties its output head to its embedding, but it stores another head"
            yield Finding(
                "warn", "stored-head", what, "the stored head is used; a result with it says that it is untied"
            )
        elif side.tied and HEAD in side.tensors:
            what = f"{_label(side, a)} ties its output head to its embedding and stores a copy of it as head"
            yield Finding("warn", "stored-head", what, "the copy is left out")
        if side.tied:
            names[side].discard(HEAD)
            if a.tied != b.tied:
                names[side].add(HEAD)
    for here, there in ((a, b), (b, a)):
        missing = sorted(names[here] - names[there])
        if missing:
            shown = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
            yield Finding(
                "refuse",
                "tensors",
                f"{_label(there, a)} lacks {counted(len(missing), 'tensor')}: {shown}",
                "give two checkpoints of one model",
            )
    both = names[a] & names[b]
    common = [name for name in {**a.tensors, HEAD: None} if name in both]
    if names[a] == names[b]:
        yield Finding("same", "tensors", f"the same {len(names[a])} tensors")
    yield from _shapes(a, b, common)


def _shapes(a: Checkpoint, b: Checkpoint, common: list[str]) -> Iterator[Finding]:
    shapes = {name: (a.resolve(name).shape, b.resolve(name).shape) for name in common}
    different = [name for name, (left, right) in shapes.items() if left != right]
    padded = [n for n in different if _is_vocabulary(n) and len(shapes[n][0]) and shapes[n][0][1:] == shapes[n][1][1:]]
    is_padded = set(padded)
    wrong = [name for name in different if name not in is_padded]
    if wrong:
        name = wrong[0]
        left, right = (list(shape) for shape in shapes[name])
        yield Finding(
            "refuse",
            "shapes",
            f"{counted(len(wrong), 'tensor differs', 'tensors differ')} in shape, first {name}: {left} and {right}",
            "give two checkpoints of one model",
        )
    if padded:
        rows = [shape[0] for shape in shapes[padded[0]]]
        used = [side.tokenizer.strings for side in (a, b)]
        text = f"{rows[0]} and {rows[1]} vocabulary rows"
        if any(tokens is None for tokens in used):
            yield Finding(
                "refuse", "padding", f"{text}, and no readable tokenizer tells which are padding", "add tokenizer.json"
            )
        elif max(max(tokens, default=0) for tokens in used if tokens is not None) >= min(rows):
            yield Finding(
                "refuse",
                "padding",
                f"{text}, and the tokens in use reach beyond the shorter",
                "use one vocabulary for both",
            )
        else:
            yield Finding(
                "warn", "padding", f"{text}, padding only", "common rows are mixed, further ones come from the donor"
            )
    if not different:
        yield Finding("same", "shapes", "all shapes agree")
    for side in (a, b):
        top = max(side.tokenizer.strings or {}, default=-1)
        if side.embedding and top >= side.embedding.shape[0]:
            yield Finding(
                "refuse",
                "vocabulary",
                f"{_label(side, a)} has {side.embedding.shape[0]} embedding rows, its tokenizer ids up to {top}",
                "use the tokenizer this checkpoint was trained with",
            )


def _dtypes(a: Checkpoint, b: Checkpoint) -> Iterator[Finding]:
    kinds = [sorted({t.dtype for t in side.tensors.values()}) for side in (a, b)]
    other = {d for dtypes in kinds for d in dtypes if d not in FLOATING and not d.startswith(_SMALL_FLOATS)}
    mixed = [
        n for n, t in a.tensors.items() if n in b.tensors and (t.dtype in FLOATING) != (b.tensors[n].dtype in FLOATING)
    ]
    if mixed:
        what = f"{counted(len(mixed), 'tensor is', 'tensors are')} floating on one side only, first {mixed[0]}"
        yield Finding("refuse", "floating", what, "give two checkpoints of one model")
    if other:
        yield Finding("warn", "integers", f"{', '.join(sorted(other))} tensors are copied from the donor, not mixed")
    if kinds[0] != kinds[1]:
        what = f"different dtypes: {', '.join(kinds[0])} and {', '.join(kinds[1])}"
        yield Finding("warn", "dtype", what, "the result takes the donor's dtypes; `mull merge --dtype` gives others")
    else:
        yield Finding("same", "dtype", f"dtype {', '.join(kinds[0])}")


def _rope(a: Checkpoint, b: Checkpoint, *, severity: Severity) -> Iterator[Finding]:
    left, right = rope(a.config), rope(b.config)
    if left == right:
        thetas = ", ".join(sorted({f"{group['rope_theta']:g}" for group in left.values()}))
        yield Finding("same", "rope", f"rotary embedding agrees (theta {thetas})")
        return
    parts = []
    for group in sorted(left.keys() | right.keys()):
        l_group, r_group = left.get(group, {}), right.get(group, {})
        keys = sorted(k for k in l_group.keys() | r_group.keys() if l_group.get(k) != r_group.get(k))
        prefix = "" if group == "all" else f"{group} "
        parts += [f"{prefix}{key} {l_group.get(key)!r} and {r_group.get(key)!r}" for key in keys]
    yield Finding(
        severity,
        "rope",
        f"different rotary embeddings: {', '.join(parts[:4])}",
        "give two checkpoints with the same rotary parameters, or --allow rope to take the donor's",
    )


def _tokens(a: Checkpoint, b: Checkpoint) -> Iterator[Finding]:
    left, right = a.tokenizer.strings, b.tokenizer.strings
    if left is None or right is None:
        side = a if left is None else b
        yield Finding("warn", "tokens", f"{_label(side, a)} has no readable vocabulary: token ids were not compared")
        return
    conflicts = sorted(i for i in left.keys() & right.keys() if left[i] != right[i])
    if conflicts:
        i = conflicts[0]
        what = f"{counted(len(conflicts), 'token id stands', 'token ids stand')} for different strings"
        first = f"first {i}: {left[i]!r} and {right[i]!r}"
        yield Finding("refuse", "tokens", f"{what}, {first}", "give two checkpoints with one tokenizer")
    only = [len(left.keys() - right.keys()), len(right.keys() - left.keys())]
    if any(only):
        what = f"{counted(only[0], 'token')} only on the Instruct side, {only[1]} only on the Thinking side"
        yield Finding("warn", "extra-tokens", what, "rows of such tokens are mixed with rows that were never trained")
    if not conflicts and not any(only):
        yield Finding("same", "tokens", f"the same {len(left)} tokens")


def _behaviour(a: Checkpoint, b: Checkpoint) -> Iterator[Finding]:
    for key, label in (("eos_token_id", "eos"), ("pad_token_id", "pad")):
        ids = [token_ids(side.config, side.generation_config, key) for side in (a, b)]
        if ids[0] != ids[1]:
            yield Finding("warn", label, f"different {label} ids: {ids[0]} and {ids[1]}", "the donor's are used")
        else:
            yield Finding("same", label, f"{label} ids {ids[0]}")
    lengths: list[Any] = [text_config(side.config).get("max_position_embeddings") for side in (a, b)]
    if lengths[0] != lengths[1]:
        yield Finding(
            "warn", "max-positions", f"different max positions: {lengths[0]} and {lengths[1]}", "the donor's is used"
        )
    else:
        yield Finding("same", "max-positions", f"max positions {lengths[0]}")
    templates = [side.tokenizer.chat_template for side in (a, b)]
    if templates[0] == templates[1]:
        yield Finding("same", "chat-template", "the same chat template" if templates[0] else "no chat template")
    else:
        opens = [_opens(side, label) for side, label in ((a, "Instruct"), (b, "Thinking"))]
        yield Finding(
            "warn",
            "chat-template",
            f"different chat templates: {opens[0]}, {opens[1]}",
            "the donor's is used for every λ",
        )
    tags = think_tags(a, b)
    marked = (
        f"thought is marked by {' or '.join(map(str, tags))}" if tags else "no known delimiters of thought are named"
    )
    yield Finding("same", "think-tags", marked if tags else f"{marked}, so that all known ones count")
    settings = [{k: v for k, v in side.generation_config.items() if k != "transformers_version"} for side in (a, b)]
    keys = sorted(k for k in settings[0].keys() | settings[1].keys() if settings[0].get(k) != settings[1].get(k))
    keys = [k for k in keys if k not in ("eos_token_id", "pad_token_id")]
    if keys:
        shown = ", ".join(f"{k} {settings[0].get(k)!r} and {settings[1].get(k)!r}" for k in keys[:5])
        yield Finding(
            "warn",
            "generation-config",
            f"different generation configs: {shown}",
            "a merge copies the donor's; a sweep samples as its own options say",
        )
    else:
        yield Finding("same", "generation-config", "the same generation config")


def think_tags(*sides: Checkpoint) -> tuple[ThinkTags, ...]:
    """The delimiters of thoughts that a side's template or vocabulary names; may be empty."""
    named = {tags for side in sides for tags in side.tokenizer.think_tags}
    return tuple(tags for tags in KNOWN if tags in named)


def _sides(a: Checkpoint, b: Checkpoint) -> Iterator[Finding]:
    if a.folder.resolve() == b.folder.resolve():
        yield Finding("warn", "same-folder", "both sides are the same folder", "every λ gives this one model")
    elif a.tokenizer.opens_thought and b.tokenizer.opens_thought is False:
        yield Finding(
            "warn",
            "swapped",
            f"the Instruct side's template opens {a.tokenizer.opened_thought} and the Thinking side's does not: "
            "the sides look swapped",
            "exchange the two sides",
        )


def _label(side: Checkpoint, instruct: Checkpoint) -> str:
    """The name of a side in findings: its role, because findings are published and paths should not be."""
    return "the Instruct side" if side is instruct else "the Thinking side"


def _opens(side: Checkpoint, label: str) -> str:
    if side.tokenizer.chat_template is None:
        return f"the {label} side has none"
    opened = side.tokenizer.opened_thought
    does = "cannot be rendered" if opened is None else f"opens {opened}" if opened else "opens no thought"
    return f"the {label} side {does}"


def _is_vocabulary(name: str) -> bool:
    return name.endswith((*EMBEDDINGS, HEAD, "lm_head.bias"))


def _is_quantised(info: TensorInfo) -> bool:
    integers = info.dtype in ("I8", "U8") and info.name.endswith(".weight")
    return integers or info.dtype.startswith(_SMALL_FLOATS) or info.name.endswith(_QUANTISED_NAMES)
