"""Rules as text, for command-line options: SELECTOR=VALUE.

ffn=0.8                                 a kind of module, or several: ffn,norm
12-35=0.8                               layers, or several ranges: 0-11,24-35
layers:12-35,modules:ffn=0.8            both (a space instead of the comma is allowed)
model.layers.*.mlp.*=0.8                a glob for the whole parameter name
re:.*[.](q|k)_proj[.].*=0.8             a regular expression for the whole parameter name
all=0.2->0.9                            a gradient from the first layer selected to the last (or 0.2→0.9)
layers:0-3=0.1,0.2,0.3,0.4              one λ for each layer selected
"""

from __future__ import annotations

import re

from mull.checkpoints.names import OTHERS_SAY
from mull.errors import MullError, nearest
from mull.merging.coefficients import parse_layers
from mull.merging.coefficients.rules import SELECTORS, Gradient, Rule, format_ranges, shortest

_KEYS = ("layers", "modules", "name")
_EVERYTHING = "all"


def parse_rule(text: str) -> Rule:
    """A rule from "SELECTOR=VALUE", in the form that `format_rule` writes or a shorter one.

    Raises:
        MullError: not of that form, a selector is given twice, or `Rule` raises.
    """
    selector, equals, value = text.rpartition("=")
    if not equals or not selector.strip():
        raise MullError(
            f"cannot read the rule {text!r}", "write SELECTOR=VALUE, as in layers:12-35,modules:ffn=0.8 or all=0.5"
        )
    selector = re.sub(r"\s*([,:])\s*", r"\1", selector.strip())
    found: dict[str, str] = {}
    for term in re.split(rf"\s+|,(?=(?:{'|'.join(_KEYS)}):)", selector):
        key, content = _term(term)
        if key in found:
            raise MullError(f"{text!r} gives {key} twice", "join lists with commas, or write two rules")
        found[key] = content
    if _EVERYTHING in found and len(found) > 1:
        raise MullError(f"{text!r} narrows {_EVERYTHING!r} down", f"leave out {_EVERYTHING!r}")
    return make_rule(parse_value(value), found.get("layers"), found.get("modules"), found.get("name"))


def format_rule(rule: Rule) -> str:
    """The rule in the form that `parse_rule` reads."""
    terms = [f"layers:{format_ranges(rule.ranges)}"] if rule.layers else []
    terms += ["modules:" + ",".join(rule.modules)] if rule.modules else []
    terms += [f"name:{rule.name}"] if rule.name is not None else []
    return f"{','.join(terms) or _EVERYTHING}={format_value(rule.lam)}"


def make_rule(
    lam: float | tuple[float, ...] | Gradient, layers: str | None, modules: str | None, name: str | None
) -> Rule:
    """A rule from selectors as text: layers "0-11,24-35", modules "ffn,norm", name "model.layers.*"."""
    return Rule(
        lam,
        parse_layers(layers) if layers is not None else None,
        tuple(kind.strip() for kind in modules.split(",")) if modules is not None else None,
        name,
    )


def parse_value(text: str) -> float | tuple[float, ...] | Gradient:
    """λ from "0.8", a gradient from "0.2->0.9" or "0.2→0.9", one λ per layer from "0.1,0.2" (for one layer: "0.1,")."""
    try:
        ends = re.split("->|→", text)
        if len(ends) == 2:
            return Gradient(float(ends[0]), float(ends[1]))
        if "," in text:
            return tuple(float(lam) for lam in text.strip().removesuffix(",").split(","))
        return float(text)
    except ValueError:
        raise MullError(
            f"cannot read the value {text!r}",
            "write 0.8, '0.2->0.9' (a gradient; in quotes, or the shell takes the >) or 0.1,0.2,0.3 (one per layer)",
        ) from None


def format_value(lam: float | tuple[float, ...] | Gradient) -> str:
    """The value as text; `parse_value` gives exactly the same value back."""
    if isinstance(lam, Gradient):
        return f"{shortest(lam.first)}->{shortest(lam.last)}"
    if isinstance(lam, tuple):
        return ",".join(map(shortest, lam)) + ("," if len(lam) == 1 else "")
    return shortest(lam)


def _term(term: str) -> tuple[str, str]:
    """(selector, content) of a term; a term without "selector:" is recognised by its form."""
    key, colon, content = term.partition(":")
    parts = term.split(",")
    if colon and key in _KEYS:
        return key, content
    if term == _EVERYTHING:
        return _EVERYTHING, ""
    if all(part in SELECTORS for part in parts):
        return "modules", term
    if re.fullmatch(r"[\d:,-]+", term):
        return "layers", term
    if key == "re" or re.search(r"[.*?\[]", term):
        return "name", term
    unknown = key if colon else next(part for part in parts if part not in SELECTORS)
    raise MullError(
        f"cannot read the selector {term!r}", nearest(unknown, (*SELECTORS, *_KEYS, _EVERYTHING), OTHERS_SAY)
    )
