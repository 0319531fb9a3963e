"""The text of an HTML tree: headings as `#` lines, lists, tables and code as blocks, values kept in place.

Extractors made for news pages drop lists and read 10<sup>9</sup> as 109. Here every element that a reader of the
page would see gives text. Markdown, pages, e-books and office files all end in such a tree and share this way to text.
"""

import re
from collections.abc import Callable
from typing import Any

from kyara_utils.knowledge.readers.grid import rows_of

HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
SKIPPED = frozenset(
    "script style noscript template head iframe object embed video audio canvas svg map select option textarea input "
    "button progress meter datalist dialog rp".split()
)
BLOCKS = frozenset(
    "address article aside blockquote body caption center dd details dir div dl dt fieldset figcaption figure footer "
    "form header hgroup hr legend li main menu nav ol p pre section summary table tbody td tfoot th thead tr ul".split()
) | {*HEADINGS}
RAISED = str.maketrans("0123456789+-−=()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿⁱ")
LOWERED = str.maketrans("0123456789+-−=()aeoxhklmnpst", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎ₐₑₒₓₕₖₗₘₙₚₛₜ")
ORDINALS = ("st", "nd", "rd", "th", "er", "re", "e", "o", "a", "tm", "sm", "®", "™", "©")
REFERENCE = re.compile(
    r"[\[［(]?\W{0,2}(?:\d{1,3}|[a-z]|[註注]\s*\d{0,3}|(?:note|nb) ?\d{1,3}|來源請求|citation needed)\W{0,2}[\]］)]?",
    re.I,
)
MATHS = re.compile(r"\b(?:math|tex|katex)\b|latex|mwe-math", re.I)
BREAK = "\ue001"  # a forced line break, until white space is settled
WIDE = r"[⺀-鿿豈-﫿＀-￯　-〿]"
INVISIBLE = "\u200b\ufeff\xad"  # zero-width space, byte order mark, soft hyphen
WRAP = re.compile(r"\s*\n\s*")
BETWEEN_WIDE = re.compile(f"(?<={WIDE})\n(?={WIDE})")


def text_of(element: Any) -> str:
    """Return the text of an lxml element's content, blocks parted by blank lines."""
    return "\n\n".join(blocks(element))


def blocks(element: Any) -> list[str]:
    """Return the blocks of text in an element, in order. Raises `RecursionError` on a tree too deep to walk."""
    found: list[str] = []
    line = [element.text or ""]
    for child in element:
        if _holds_block(child):
            found += [*_settled(line), *BLOCK.get(child.tag, blocks)(child)]
            line = []
        else:
            line.append(inline(child))
        line.append(child.tail or "")
    return found + _settled(line)


def _holds_block(element: Any) -> bool:
    if not isinstance(element.tag, str) or element.tag in SKIPPED:
        return False
    return element.tag in BLOCKS or next(element.iter(*BLOCKS), None) is not None


def _settled(line: list[str]) -> list[str]:
    text = settle("".join(line))
    return [text] if text else []


def settle(text: str) -> str:
    """White space as a browser shows it; a line break in the source between two wide characters is nothing."""
    if "\n" in text:
        text = BETWEEN_WIDE.sub("", WRAP.sub("\n", text))
    for invisible in INVISIBLE:
        text = text.replace(invisible, "")
    text = " ".join(text.split())
    return "\n".join(part.strip() for part in text.split(BREAK)).strip() if BREAK in text else text


def inline(element: Any) -> str:
    """Return the text of an element that stands inside a line."""
    if not isinstance(element.tag, str) or element.tag in SKIPPED:
        return ""
    if element.tag in INLINE:
        return INLINE[element.tag](element)
    return _maths(element) if MATHS.search(element.get("class") or "") else _content(element)


def _content(element: Any) -> str:
    parts = [element.text or ""]
    for child in element:
        parts += [inline(child), child.tail or ""]
    return "".join(parts)


def _one_line(element: Any) -> str:
    return " ".join(" ".join(blocks(element)).split())


def script(text: str, letters: dict[int, int], mark: str) -> str:
    """Raise or lower a text by Unicode's own letters, or write it as `^(…)`, `_(…)`, so that 10⁹ never reads 109."""
    text = settle(text)
    if not text or (mark == "^" and text.lower() in ORDINALS):
        return text
    moved = text.translate(letters)
    if all(ord(character) in letters for character in text):
        return moved
    return f"{mark}{text}" if len(text) == 1 else f"{mark}({text})"


def _sup(element: Any) -> str:
    text = _content(element)
    links = element.getparent() is not None and (element.getparent().tag == "a" or element.find(".//a") is not None)
    noted = {"reference", "footnote-reference", "footnote", "noprint"} & set((element.get("class") or "").split())
    return "" if noted or (links and REFERENCE.fullmatch(text.strip())) else script(text, RAISED, "^")


def _ruby(element: Any) -> str:
    text = _content(element).strip()
    return f"({text})" if text else ""


def _image(element: Any) -> str:
    """A formula drawn as an image carries its source; other images say nothing that text could keep."""
    alt = (element.get("alt") or "").strip()
    return f"${alt}$" if alt and (MATHS.search(element.get("class") or "") or "\\" in alt) else ""


def _maths(element: Any) -> str:
    """TeX source of a formula between dollar signs, from MathML's annotation or alternative text where there is one."""
    source = next((e.text for e in element.iter("annotation") if "tex" in (e.get("encoding") or "").lower()), None)
    alt = next((e.get("alttext") for e in element.iter("math") if e.get("alttext")), None)
    display = "display" in (element.get("class") or "") or element.get("display") == "block"
    text = settle(source or alt or _content(element)).strip("$ ")
    mark = "$$" if display else "$"
    return f"{mark}{text}{mark}" if text else ""


INLINE: dict[str, Callable[[Any], str]] = {
    "br": lambda element: BREAK,
    "wbr": lambda element: "",
    "img": _image,
    "math": _maths,
    "sup": _sup,
    "sub": lambda element: script(_content(element), LOWERED, "_"),
    "rt": _ruby,
    "q": lambda element: f"「{_content(element)}」",
}


def _heading(element: Any) -> list[str]:
    text = _one_line(element).strip("¶ ")
    return [f"{'#' * int(element.tag[1])} {text}"] if text else []


def _code(element: Any) -> list[str]:
    for line_break in element.iter("br"):
        line_break.text = "\n"
    code = "".join(element.itertext()).strip("\n").rstrip()
    fence = "```" if "```" not in code else "~~~~"
    return [f"{fence}\n{code}\n{fence}"] if code else []


def _list(element: Any) -> list[str]:
    """One block: `- item` or `1. item`, what else belongs to the item indented below it; code and tables are not."""
    start = element.get("start") or "1"
    number = int(start) if start.isdigit() else 1
    lines = []
    for item in element:
        if item.tag != "li":
            lines += blocks(item) if isinstance(item.tag, str) and item.tag not in SKIPPED else []
            continue
        mark = f"{number}. " if element.tag == "ol" else "- "
        number += 1
        lines += _item(mark, blocks(item))
    return ["\n".join(lines)] if lines else []


def _item(mark: str, parts: list[str]) -> list[str]:
    if not parts:
        return []
    if parts[0].startswith(("```", "~~~~", "|", "#", "- ", "1. ")):
        return [_indented(part) for part in parts]
    return [mark + parts[0].replace("\n", "\n  "), *(_indented(part) for part in parts[1:])]


def _indented(part: str) -> str:
    return part if part.startswith(("```", "~~~~", "|", "#")) else "  " + part.replace("\n", "\n  ")


def _terms(element: Any) -> list[str]:
    lines: list[str] = []
    for item in element.iter("dt", "dd"):
        if next(item.iterancestors("dl"), None) is element:
            parts = blocks(item)
            lines += _item("- ", parts) if item.tag == "dt" else [_indented(part) for part in parts]
    return ["\n".join(lines)] if lines else []


def _table(element: Any) -> list[str]:
    """Rows `| a | b |`; a table that only arranges the page gives the blocks in its cells."""
    caption = [text for child in element.iterchildren("caption") for text in blocks(child)]
    rows = rows_of(element)
    if any(
        next(cell.element.iter("table", "pre", *HEADINGS), None) is not None for row in rows for cell in row if cell
    ):
        seen = dict.fromkeys(cell.element for row in rows for cell in row if cell)
        return caption + [text for cell in seen for text in blocks(cell)]
    texts = [
        [_one_line(cell.element).replace("|", "｜") if cell and cell.shown else "" for cell in row] for row in rows
    ]
    used = [at for at in range(max(map(len, texts), default=0)) if any(len(row) > at and row[at] for row in texts)]
    kept = [[row[at] if at < len(row) else "" for at in used] for row in texts]
    kept = [row for row in kept if any(row)]
    if len(used) == 1:
        return caption + ["\n".join(row[0] for row in kept)]
    return caption + (["\n".join(f"| {' | '.join(row)} |" for row in kept)] if kept else [])


BLOCK: dict[str, Callable[[Any], list[str]]] = {
    **dict.fromkeys(HEADINGS, _heading),
    "pre": _code,
    "ul": _list,
    "ol": _list,
    "dl": _terms,
    "table": _table,
}
