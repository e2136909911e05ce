"""Writes mathematical typography as LaTeX: `3√2` as `3\\sqrt{2}`, `x²` as `x^{2}`, `90°` as `90^\\circ`.

Gold answers and responses both pass through here, so that either may be typed or typeset.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import islice

_DASHES = "\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d"
_SPACES = "\u00a0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u202f\u205f\u3000"
_INVISIBLE = "\u00ad\u200b\u200c\u200d\u2060\u2061\u2062\u2063\u2064\ufeff\ufe0e\ufe0f"

_SYMBOLS = {
    "·⋅∙‧": "\\cdot ", "×✕✖⨯": "\\times ", "÷": "\\div ", "∕⁄": "/", "∶": ":", "±": "\\pm ", "∓": "\\mp ",
    "≤⩽≦": "\\le ", "≥⩾≧": "\\ge ", "≠": "\\neq ", "≈": "\\approx ", "≡": "\\equiv ", "∞": "\\infty ",
    "∪⋃": "\\cup ", "∩⋂": "\\cap ", "∈∊": "\\in ", "∉": "\\notin ", "⊂": "\\subset ", "⊆": "\\subseteq ",
    "∖": "\\setminus ", "∅⌀": "\\emptyset ", "∑": "\\sum ", "∏": "\\prod ", "∫": "\\int ", "∠": "\\angle ",
    "⌊": "\\lfloor ", "⌋": "\\rfloor ", "⌈": "\\lceil ", "⌉": "\\rceil ", "⟨〈": "\\langle ", "⟩〉": "\\rangle ",
    "…⋯": "\\ldots ", "℃": "^\\circ C", "℉": "^\\circ F", "′": "'", "″": "''", "‴": "'''", "‘’": "'", "“”„": '"',
    "、": ",", "。": ".", "ℝ": "\\mathbb{R}", "ℤ": "\\mathbb{Z}", "ℕ": "\\mathbb{N}", "ℚ": "\\mathbb{Q}",
    "ℂ": "\\mathbb{C}", _DASHES: "-", _SPACES: " ", _INVISIBLE: "",
}  # fmt: skip
_TABLE = str.maketrans({sign: latex for signs, latex in _SYMBOLS.items() for sign in signs})

_GREEK_NAMES = (
    "α alpha β beta γ gamma δ delta ε epsilon ζ zeta η eta θ theta ι iota κ kappa λ lambda μ mu ν nu ξ xi π pi ρ rho "
    "σ sigma τ tau υ upsilon φ phi χ chi ψ psi ω omega ϕ phi ϑ theta ϵ epsilon Γ Gamma Δ Delta Θ Theta Λ Lambda Ξ Xi "
    "Π Pi Σ Sigma Φ Phi Ψ Psi Ω Omega"
)
_GREEK = {letter: f"\\{name} " for letter, name in re.findall(r"(\S) (\S+)", _GREEK_NAMES)}
_GREEK_ALONE = re.compile(r"(?<![\u0370-\u03ff])[\u0370-\u03ff](?![\u0370-\u03ff])")  # not in a Greek word
_VARIANTS = re.compile(r"\\var(phi|theta|epsilon)(?![A-Za-z])")

_DEGREE = re.compile(r"\^\s*\{\s*[°˚]\s*\}|\^?\s*[°˚]|(?<=\d)\s*[º∘]|\\degree(?![A-Za-z])")
_ROOTS = {"√": "", "∛": "[3]", "∜": "[4]"}
_ROOT = re.compile(
    r"(?:(?<![^\W_])(?<![)\]}])(?P<index>[⁰¹²³⁴-⁹]+))?(?P<sign>[√∛∜])\s*(?P<rest>\d+(?:\.\d+)?|[^\W\d_])?"
)
_GROUPS = {"(": ")", "{": "}"}
_MOST, _LONGEST = 500, 500
"""Most roots of a text, and most characters under one: reading them takes time in proportion to both."""


def _scripts(kind: str) -> dict[str, str]:
    """Every character that Unicode calls a superscript (`kind` "<super>") or a subscript ("<sub>") → what it means."""
    marks = [
        chr(code)
        for code in (*range(0xA0, 0x250), *range(0x2B0, 0x300), *range(0x1D2C, 0x1DC0), *range(0x2070, 0x20A0), 0x2C7C)
    ]
    split = ((mark, unicodedata.decomposition(mark).split()) for mark in marks)
    found = {mark: chr(int(parts[1], 16)) for mark, parts in split if len(parts) == 2 and parts[0] == kind}
    return {mark: "-" if plain == "−" else plain for mark, plain in found.items() if mark != "º"}


_SUPER, _SUB = _scripts("<super>"), _scripts("<sub>")
_RAISED, _LOWERED = (f"[{''.join(map(re.escape, signs))}]" for signs in (_SUPER, _SUB))
_SUPERS, _SUBS = re.compile(f"{_RAISED}+"), re.compile(f"{_LOWERED}+")
_SLASHED = re.compile(rf"(?:(?<!{_RAISED})({_RAISED}+)|(?<!\d)(\d+))[⁄∕/]({_LOWERED}+)|(?<!\d)(\d+)⁄(\d+)")
_THIN = re.compile(rf"(?<=\d)[{_SPACES}](?=\d{{3}}(?!\d))")
_OVERLINED = re.compile(r"(?:\d[\u0304\u0305])+")
_DOTTED = re.compile(r"(\d)\u0307")


def as_latex(text: str) -> str:
    """`text` with every typographic sign of mathematics as LaTeX; ASCII and other writing is left as it is."""
    if text.isascii():
        return _VARIANTS.sub(r"\\\1", _DEGREE.sub(r"^\\circ ", text)) if "\\" in text else text
    text = _OVERLINED.sub(lambda run: f"\\overline{{{re.sub('[^0-9]', '', run.group())}}}", text)
    text = _DOTTED.sub(r"\\dot{\1}", text)
    text = _THIN.sub(r"\\,", text)
    text = _SLASHED.sub(_fraction, text)
    text = _DEGREE.sub(r"^\\circ ", text)
    text = _radicals(text)
    text = _SUPERS.sub(lambda run: f"^{{{run.group().translate(str.maketrans(_SUPER))}}}", text)
    text = _SUBS.sub(lambda run: f"_{{{run.group().translate(str.maketrans(_SUB))}}}", text)
    text = text.translate(_TABLE)
    text = "".join(_plain(sign) for sign in text)
    text = _GREEK_ALONE.sub(lambda letter: _GREEK.get(letter.group(), letter.group()), text)
    return _VARIANTS.sub(r"\\\1", text)


def folded(text: str) -> str:
    """`text` with full-width, circled and styled letters and digits as ASCII, for graders that compare plain text."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text.translate(_FOLDED))


_FOLDED = str.maketrans({sign: plain for signs, plain in ((_DASHES, "-"), (_INVISIBLE, "")) for sign in signs})


def _plain(sign: str) -> str:
    """A character that is another in a different style (full-width, bold, a unit in one square) as that other."""
    if sign.isascii():
        return sign
    kind, *codes = unicodedata.decomposition(sign).split() or [""]
    if kind == "<fraction>":
        over, under = "".join(chr(int(code, 16)) for code in codes).split("⁄")
        return f"\\frac{{{over}}}{{{under}}}" if under else f"{over}/"
    if kind in ("<wide>", "<narrow>", "<font>", "<square>", "<compat>", "<circle>"):
        return as_latex("".join(chr(int(code, 16)) for code in codes))
    return sign


def _fraction(match: re.Match[str]) -> str:
    """A fraction of raised and lowered digits around a slash."""
    over, under = filter(None, match.groups())
    both = str.maketrans(_SUPER | _SUB)
    return f"\\frac{{{over.translate(both)}}}{{{under.translate(both)}}}"


def _radicals(text: str) -> str:
    """`√2`, `√(x+1)`, `√{2}`, `³√5` and `∛5` by `\\sqrt`; the last one first, so that a root may hold another."""
    for match in reversed(list(islice(_ROOT.finditer(text), _MOST))):
        index = f"[{match['index'].translate(str.maketrans(_SUPER))}]" if match["index"] else _ROOTS[match["sign"]]
        rest, end = match["rest"] or "", match.end()
        if not rest and text[end : end + 1] in _GROUPS:
            close = _closing(text, end)
            rest, end = text[end + 1 : close], close + 1
        elif not rest and (command := re.compile(r"\\sqrt(?:\[\d+\])?\{[^{}]*\}|\\[A-Za-z]+").match(text, end)):
            rest, end = command.group(), command.end()
        text = f"{text[: match.start()]}\\sqrt{index}{{{rest}}}{text[end:]}"
    return text


def _closing(text: str, start: int) -> int:
    """Index of the bracket that closes the one at `start`, or where the search ends."""
    left, depth, end = text[start], 0, min(len(text), start + _LONGEST)
    for place in range(start, end):
        depth += (text[place] == left) - (text[place] == _GROUPS[left])
        if depth == 0:
            return place
    return end
