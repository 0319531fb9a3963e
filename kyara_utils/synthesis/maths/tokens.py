"""From plain notation to tokens: numbers with their units, signs, brackets, words, and where a sum cannot go on."""

import re
from dataclasses import replace
from fractions import Fraction

from kyara_utils.synthesis.maths.rationals import OPERATORS, SCALES, Token, Unreadable, number

SHARED = re.compile(r"÷\s*(\d+/\d+)")  # 1÷1/2 is one divided by a half
BULLET = re.compile(r"(?m)^[ \t]*(?:[-*+•]|\d{1,3}[.)、])[ \t]+")
TIMES = re.compile(r"(?<=[\d)%\u4e00-\u9fff])[ \t]*[xX][ \t]*(?=[\d(.])")
MIXED = re.compile(r"(?<!\d)(\d+)\s*又\s*\(?(\d+)\s*/\s*(\d+)\)?")
PIECE = re.compile(
    r"(?P<number>\d+(?:\.\d+)?(?:[萬億兆](?:\d+[千百萬])?)?|\.\d+)"
    r"|(?P<remainder>餘|余|\.{3,}|…+|⋯+)|(?P<operator>[-+×÷/*^])|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<root>√)"
    r"|(?P<percent>[%‰])|(?P<equals>[=≈])|(?P<word>[A-Za-z\\°μΩ][A-Za-z0-9\\°]*|[\u4e00-\u9fff]+|[\u25a0-\u25ff⬜⬛☐?？¥€£￥]|_{3,})"
    r"|(?P<space>[ \t]+)|(?P<stop>.|\n)"
)
SCALE = re.compile(r"(?:[千百](?![克米瓦卡分])|十)$")
LONGEST_UNIT = 8  # characters of a word that may stand behind a number and still be its unit


def tokenize(text: str) -> list[Token]:
    """Return the tokens of a text in plain notation; white space goes, what cannot be part of a sum is a `stop`."""
    text = SHARED.sub(r"÷(\1)", MIXED.sub(r"(\1+\2/\3)", TIMES.sub("×", BULLET.sub("", text))))
    found = [_token(match) for match in PIECE.finditer(text)]
    return _with_units(_scaled([token for token in found if token.kind != "space"]))


def _token(match: re.Match[str]) -> Token:
    kind, text = match.lastgroup or "stop", match.group()
    if kind != "number":
        return Token(kind, text)
    try:
        return Token(kind, text, _amount(text))
    except Unreadable:
        return Token("word", text)


def _amount(text: str) -> Fraction:
    """`1.5萬` and `2萬5千` as numbers."""
    parts = re.findall(r"(\d+(?:\.\d+)?|\.\d+)([千百萬億兆]?)", text)
    return sum((number(digits) * SCALES.get(scale, 1) for digits, scale in parts), Fraction(0))


def _scaled(tokens: list[Token]) -> list[Token]:
    """Take 千 and 百 right behind a number into it (3千元), but not in 千克 and its like."""
    out: list[Token] = []
    for token in tokens:
        before = out[-1] if out else None
        if before and before.kind == "number" and token.kind == "word" and before.text[-1].isdigit():
            scale = re.match(r"[千百](?![克米瓦卡分])", token.text)
            if scale:
                out[-1] = Token("number", before.text + scale.group(), before.value * SCALES[scale.group()])
                token = replace(token, text=token.text[1:])
        if token.text:
            out.append(token)
    return out


def _with_units(tokens: list[Token]) -> list[Token]:
    """Mark as `unit` a short word behind a number or bracket where the sum goes on or ends: 48條, 60 km/h, 19(條)."""
    out: list[Token] = []
    at = 0
    while at < len(tokens):
        length = _unit_length(tokens, at) if out and out[-1].kind in ("number", "close", "percent") else 0
        if length:
            out.append(Token("unit", "".join(token.text for token in tokens[at : at + length]).strip("()")))
        else:
            out.append(tokens[at])
        at += length or 1
    return out


def _unit_length(tokens: list[Token], at: int) -> int:
    kinds = [token.kind for token in tokens[at : at + 3]]
    if kinds == ["open", "word", "close"]:
        return 3
    if kinds[0] != "word" or len(tokens[at].text) > LONGEST_UNIT or "\\" in tokens[at].text:
        return 0
    end = at + 1
    if kinds[1:] == ["operator", "number"] and tokens[end].text == "^" and tokens[at].text.isascii():
        end += 2
    while [t.kind for t in tokens[end : end + 2]] == ["operator", "word"] and tokens[end].text == "/":
        end += 2
    after = tokens[end] if end < len(tokens) else Token("stop", "")
    if tokens[at].text.isascii() and len(tokens[at].text) == 1 and after.kind in ("operator", "equals"):
        return end - at if tokens[at].text in "mgLhst" else 0  # 2x+3: a variable, not a unit
    return end - at if after.kind not in ("number", "word", "open", "root") else 0


def joins(token: Token | None) -> bool:
    """Whether the sum goes on into this token, so that what was read of it is only a part."""
    return token is not None and token.kind == "operator" and token.text in OPERATORS
