"""Sums as people and models write them, brought to one notation: full width, LaTeX, signs, thousands separators.

Nothing is computed here and nothing is lost on purpose: what this does not know stays text, and a sum with text in it
is later `unverified`, never wrong.
"""

import re
from unicodedata import normalize

NESTED = 16  # boxes, and fractions within fractions
LONGEST = 20_000  # characters that are read; a longer text is cut there
SIGNS = str.maketrans(
    {
        **{chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F) if code != 0xFF0C},  # full width, less ，
        "−": "-", "–": "-", "—": "-", "‒": "-", "✕": "×", "✖": "×", "∙": "×", "·": "×", "⋅": "×", "∗": "×",
        "∕": "÷", "⁄": "/", "≒": "≈", "≃": "≈", "≅": "≈", "∶": ":",
        **dict.fromkeys("　\u00a0\u2007\u2009\u202f", " "), **dict.fromkeys("\u200b\u200d\u2060\ufeff", ""),
    }
)  # fmt: skip
LATEX = (
    (r"\\(?:left|right|displaystyle|big|Big|quad|qquad)(?![A-Za-z])|\\[,;:! ]", ""),
    (r"\\(?:times|cdot|ast)(?![A-Za-z])", "×"),
    (r"\\div(?![A-Za-z])", "÷"),
    (r"\\(?:approx|simeq|fallingdotseq)(?![A-Za-z])", "≈"),
    (r"\\(?:text|mathrm|mathbf|textbf|operatorname)\s*\{([^{}]*)\}", r"\1"),
    (r"\\(?:begin|end)\s*\{[^{}]*\}", "\n"),
    (r"\\\\", "\n"),
    (r"\\[\[\]()]", "\n"),
    (r"\\([%$#&_])", r"\1"),
    (r"\^\s*\\?circ(?![A-Za-z])|\^\s*\{\s*\\circ\s*\}", "°"),
    (r"&", ""),
)
MIXED = re.compile(r"(?<![\d.])(\d+)\s*\\[dtc]?frac\s*\{(\d+)\}\s*\{(\d+)\}")  # 2\frac{1}{2} is two and a half
FRACTION = re.compile(r"\\[dtc]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
ROOT = re.compile(r"\\sqrt\s*\{([^{}]*)\}")
POWER = re.compile(r"\^\s*\{([^{}]*)\}")
BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")
CURRENCY = re.compile(r"(?:NT|US|HK|TWD|NTD|\bR)?\$+(?=\s*\d)|\$|[¥€£￥](?=\s*\d)")
THOUSANDS = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?!\d)|(?<![\d,.])\d{1,3}(?: \d{3})+(?![\d,])")
RAISED = re.compile(r"[⁺⁻]?[⁰¹²³⁴-⁹]+")
PART = re.compile(r"(?<!\d)(\d{0,6})[ ]?([¼½¾⅐-⅞])")  # 2½
WIDE_THOUSANDS = re.compile(r"(?<![０-９])[０-９]{1,3}(?:，[０-９]{3})+(?![０-９])")
PARTS = re.compile(r"(?<!\d)(\d+)\s*分之\s*(\d+)")  # 3分之2 is 2/3


def plain_notation(text: str) -> str:
    """Return `text` in ASCII digits and the signs + - × ÷ / = ≈ ^ % ( ), LaTeX and separators taken away.

    A line that starts with = goes on from the line above.
    """
    text = WIDE_THOUSANDS.sub(lambda found: found.group().replace("，", ""), text[:LONGEST])
    text = unbox(text.translate(SIGNS))
    for pattern, plain in LATEX:
        text = re.sub(pattern, plain, text)
    text = MIXED.sub(r"(\1+\2/\3)", text.replace("{,}", ","))
    text = _nested(FRACTION, r"((\1)/(\2))", text)
    text = _nested(POWER, r"^(\1)", _nested(ROOT, r"√(\1)", text))
    text = PARTS.sub(r"(\2/\1)", CURRENCY.sub("", _typed(text)))
    text = re.sub(r"[*＊]{2,}|`|(?<!_)_{1,2}(?!_)", "", text)  # Markdown's emphasis and code
    text = re.sub(r"\n[ \t\n]{0,8}(?==)", " ", text)
    return THOUSANDS.sub(lambda found: re.sub("[, ]", "", found.group()), text)


def _typed(text: str) -> str:
    """Powers and fractions that are one character: 2⁵ as 2^5, ½ as (1/2), 2½ as (2+1/2)."""
    text = RAISED.sub(lambda found: "^" + _grouped(normalize("NFKC", found.group()).replace("−", "-")), text)
    return PART.sub(lambda found: f"({found[1] + '+' * bool(found[1])}{normalize('NFKC', found[2])})", text).replace(
        "⁄", "/"
    )


def _grouped(power: str) -> str:
    return power if power.isdigit() else f"({power})"


def _nested(pattern: re.Pattern[str], plain: str, text: str) -> str:
    """Replace from the inside out."""
    for _ in range(NESTED):
        text, count = pattern.subn(plain, text)
        if not count:
            break
    return text


def unbox(text: str) -> str:
    r"""Return `text` with each \boxed{…} replaced by what it holds."""
    for _ in range(NESTED):
        if not (found := BOXED.search(text)):
            break
        inner = braced(text, found.end())
        text = text[: found.start()] + inner + text[found.end() + len(inner) + 1 :]
    return text


def braced(text: str, start: int) -> str:
    """Return what stands between an opening brace that ends at `start` and its closing one, or the rest."""
    depth = 1
    for at in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if not depth:
            return text[start:at]
    return text[start:]
