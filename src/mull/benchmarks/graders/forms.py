"""Writes an answer in the form that math-verify reads: ordinals, repeating decimals, grouped digits, bases, units.

Works on LaTeX, after `typography`. `anywhere` is safe in running text; `as_answer` is for a text that is nothing but an
answer, as the content of a box or a gold answer. docs/grading.md has a table of all forms.
"""

from __future__ import annotations

import re
from fractions import Fraction

_TEXT = r"\\(?:text(?:rm|bf|it|sf|normal|superscript)?|mathrm|mathbf|mathit|mbox|hbox|operatorname)"
_END = r"(?:st|nd|rd|th)"
_ORDINAL = re.compile(
    rf"(?<=\d)\s*(?:\^?\s*\{{?\s*{_TEXT}\s*\{{\s*{_END}\s*\}}|\^\s*\{{\s*\\rm\s+{_END}|\^\s*\{{\s*{_END}(?=\s*\}})"
    rf"|{_END}(?![A-Za-z]))(\s*\}})?"
)
_NUMBER_IN_TEXT = re.compile(rf"{_TEXT}\s*\{{\s*([+-]?\d[\d.,]*)\s*\}}")
_GROUPED = re.compile(r"(?<![\d.])\d{1,3}(?:\s*(?:\{,\}|,?\\[,!;: ]|\\thinspace|')\s*\d{3})+(?!\d)")
_SCIENTIFIC = re.compile(r"(?<![\w.\\])(\d+(?:\.\d+)?)[eE]([+-]?\d{1,6})(?![\w.]\w)(?!\w)")
_POWER = re.compile(r"\^\s*([+-]?\d{2,}|[+-]\d+)")

_MARKED = re.compile(
    r"(?<![\d.])(\d*)\.(\d*)(?:\\(?:overline|bar)\s*(?:\{\s*(\d{1,40})\s*\}|(\d))|\((\d{1,40})\)(?!\s*[\^_\d])"
    r"|(\\dot\s*\{?\s*\d\s*\}?(?:\d{0,40}\\dot\s*\{?\s*\d\s*\}?)?))"
)
_GOES_ON = re.compile(r"(?<![\d.])(\d{0,20})\.(\d{1,60})\s*(?:\\[lc]?dots(?![A-Za-z])|\.{3,})")
_CYCLE = re.compile(r"(\d{0,3}?)(?:(\d)\2{2,}|(\d\d)\3+\d?|(\d{3,20}?)\4+\d*)")
_EULER = "2.718281828459045"  # its first digits look like a cycle

_NAMES = "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_RADIX = {name: number for number, name in enumerate(re.findall("[a-z]+", _NAMES), 2)} | {
    "binary": 2, "octal": 8, "hexadecimal": 16,
}  # fmt: skip
_NAMED = rf"\(?\s*(?:[Bb]ase[\s~-]*)?(\d{{1,2}}|{'|'.join(_RADIX)})\s*\)?"
_SUBSCRIPT = re.compile(
    rf"(?<=[\w)}}])\s*_\s*(?:\{{\s*{_NAMED}\s*\}}|(?:\{{\s*)?(?:{_TEXT}\s*\{{|\{{?\\rm\s)\s*{_NAMED}\s*\}}(?:\s*\}})?|(\d))"
)
_SPELLED = re.compile(
    rf"(?<=\w)\s*,?(?:\\[ ,;])?\s*(?:{_TEXT}\s*\{{)?\s*\(?\s*(?:in\s+)?base[\s~]*\}}?\s*"
    rf"(\d{{1,2}}|{'|'.join(_RADIX)})\s*\)?(?:\s*\}})?"
)
_NUMERAL = re.compile(rf"(?:{_TEXT}\s*\{{\s*([\dA-Fa-f]+)\s*\}}|\(([\dA-F]+)\))(?=_\{{\d+\}})")
_BASED = re.compile(r"(?<![\w.\\])(?:\d[\dA-Za-z]*|[A-F\d]{2,})_\{(\d{1,2})\}")

_SCALE = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SCALED = re.compile(
    rf"(?<=\d)\s*(?:\\[ ,;]|~)?\s*(?:{_TEXT}\s*\{{\s*)?({'|'.join(_SCALE)})s?\b\s*(?:(dollars?)?\s*\}})?"
)
_CURRENCY = re.compile(
    r"(?:US|USD\s*)?[€£¥₹₩₽¢]|\\(?:pounds|euro|texteuro|textsterling|yen)(?:\{\}|(?![A-Za-z]))|USD?\s*(?=\\?\$|\d)"
)
_LABEL = re.compile(
    rf"^(?:{_TEXT}\s*\{{[^{{}}]*[A-Za-z]{{2}}[^{{}}]*[:=]\s*\}}|{_TEXT}\s*\{{[A-Za-z ]{{2,}}\}}\s*[:=])\s*(?=\S)"
)
_MIXED = re.compile(
    r"([+-]?)(\d+)(?:(?:\s*\\[ ,;:!]|\s+and|)\s*\\[dt]?frac\s*(\{\d+\}|\d)\s*(\{\d+\}|\d)"
    r"|(?:\s+and\s+|\s*\\[ ,;:!]\s*|\s+)(\d+)\s*/\s*(\d+))(\s*\\?%)?"
)
_FUNCTION = re.compile(r"(?<![\\A-Za-z{])((?:arc)?(?:sin|cos|tan)|cot|sec|csc|log|ln)(?=[a-z]?(?![A-Za-z]))")
_ANGLES = re.compile(r"(?:\\left\s*|\\right\s*)?\\([lr])angle(?![A-Za-z])")
_SPACED = re.compile(r"([+-]?\d{1,3})((?:[ ~]\d{3})+)(\.\d+)?")
_DOTTED = re.compile(r"[+-]?\d{1,3}(?:\.\d{3}){2,}")

_NUMBER = r"[+-]?(?:[\d.,]|\\[dt]?frac|\\sqrt|\\pi|\\cdot|\\times|\^|[{}+\-*/() ])*?(?:[\d)}]|\\pi)"
_LONG_UNIT = (
    "[kcmnμ]m|in|ft|yd|mi|kg|mg|lbs?|oz|ms|secs?|mins?|hrs?|yrs?|m[lL]|gal|mph|kph|kmh|kJ|kW|mA|k?Hz|k?Pa|mol|rad|deg"
    "|k?cal"
)
_NO_UNIT = "sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|mod|inf|theta|alpha|beta|gamma|delta"
_WORD = rf"(?!(?:{_NO_UNIT})\b)[a-z]{{3,}}|USD|EUR|GBP"
_POWERED = r"(?:\s*\^\s*(?:\{[+-]?\d\}|\d))?"
_UNIT = rf"(?:(?:{_LONG_UNIT}|[msghdlLJNWVACFK])(?![A-Za-z])|{_WORD}){_POWERED}"
_UNITS = re.compile(
    rf"({_NUMBER})(?:\s*\^\s*\{{?\\circ\s*\}}?\s*[CF]"
    rf"|(?:(?:\s|\\[ ,;:]|~)+{_UNIT}|(?:{_LONG_UNIT})(?![A-Za-z]){_POWERED})"
    rf"(?:(?:\s*(?:/|\\cdot|\*)\s*|\s+(?:per\s+)?){_UNIT}){{0,3}})\s*\.?"
)
_LONGEST = 200
"""Most characters of a number with units."""


def anywhere(text: str) -> str:
    """`text` with the forms that are unambiguous wherever they stand."""
    text = _ORDINAL.sub(_without_ordinal, text)
    text = _NUMBER_IN_TEXT.sub(r"\1", text)
    text = _GROUPED.sub(lambda match: re.sub(r"\D+(?:thinspace)?", "", match.group()), text)
    text = _SCIENTIFIC.sub(r"\1\\cdot 10^{\2}", text)
    text = _POWER.sub(r"^{\1}", text)
    text = _MARKED.sub(_marked, text)
    text = _GOES_ON.sub(_going_on, text)
    text = _SUBSCRIPT.sub(lambda match: f"_{{{_radix(match)}}}", text)
    return _NUMERAL.sub(lambda match: match[1] or match[2], text)


def as_answer(text: str) -> str:
    """`text`, all of which is an answer, in the form that math-verify reads."""
    text = anywhere(text.strip().removeprefix("—").strip())
    text = _CURRENCY.sub("", _LABEL.sub("", text)).strip()
    text = text[:-1] if text.endswith(".") and not text.endswith("..") else text
    text = _ANGLES.sub(lambda match: "(" if match[1] == "l" else ")", _FUNCTION.sub(r"\\\1 ", text))
    text = _SCALED.sub(lambda match: f"\\cdot 10^{{{_SCALE[match[1]]}}}", text)
    text = _SPELLED.sub(lambda match: f"_{{{_radix(match)}}}", text)
    if match := _MIXED.fullmatch(text):
        over, under = (int((match[i] or match[i + 2]).strip("{}")) for i in (3, 4))
        return f"{match[1]}\\frac{{{int(match[2]) * under + over}}}{{{under}}}{match[7] or ''}"
    if match := _SPACED.fullmatch(text):
        return re.sub(r"[ ~]", "", text)
    return text.replace(".", "") if _DOTTED.fullmatch(text) else text


def without_units(text: str) -> str:
    """`text` without the units after its number, if it is a number with units and nothing else."""
    match = _UNITS.fullmatch(text) if len(text) <= _LONGEST else None
    return match[1] if match else text


def is_number(text: str) -> bool:
    """Whether no letter stands in `text`, but for commands and text."""
    return not re.search(r"[A-Za-z]", re.sub(rf"{_TEXT}\s*\{{[^{{}}]*\}}|\\[A-Za-z]+", "", text))


def bases(text: str) -> list[int]:
    """The bases of the numbers in `text` that are written with one, sorted: 1011_2 has base 2."""
    return sorted(int(base) for base in _BASED.findall(text))


def words(text: str) -> str:
    """`text` without commands for fonts, quotes and a final full stop; in lower case if it is text and no formula."""
    plain = re.sub(rf"{_TEXT}\s*\{{([^{{}}]*)\}}", r"\1", text)
    plain = " ".join(re.sub(r"\\[ ,;!]|[\"$*`]", " ", plain).split()).strip(". ")
    return plain.lower() if re.fullmatch(r"(?=.*[A-Za-z]{3})[A-Za-z][A-Za-z '-]+", plain) else plain


def _without_ordinal(match: re.Match[str]) -> str:
    closes = match.group().count("}") - match.group().count("{")
    return "}" * max(closes, 0)


def _radix(match: re.Match[str]) -> int:
    name = next(group for group in match.groups() if group)
    return _RADIX[name] if name in _RADIX else int(name)


def _fraction(whole: str, fixed: str, cycle: str) -> str:
    """The value of whole.fixed(cycle)(cycle)… as `\\frac{p}{q}`, or as an integer."""
    shift = 10 ** len(fixed)
    value = Fraction(int(whole + fixed or "0"), shift) + Fraction(int(cycle), (10 ** len(cycle) - 1) * shift)
    return str(value) if value.denominator == 1 else f"\\frac{{{value.numerator}}}{{{value.denominator}}}"


def _marked(match: re.Match[str]) -> str:
    whole, fixed, *cycles = match.groups()
    return _fraction(whole, fixed, re.sub(r"\D", "", next(cycle for cycle in cycles if cycle)))


def _going_on(match: re.Match[str]) -> str:
    """0.1666… as 1/6; a decimal without a cycle that shows stays as it is."""
    whole, digits = match.groups()
    cycle = re.fullmatch(r"()(\d)\2", digits) or _CYCLE.fullmatch(digits)
    if cycle is None or f"{whole}.{digits}" in _EULER:
        return match.group()
    return _fraction(whole, cycle[1], next(group for group in cycle.groups()[1:] if group))
