"""Word documents: headings by style, lists, tables, formulas, inserted text; not what a change has deleted."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

from lxml import etree

from kyara_utils.knowledge.readers.block_text import BREAK
from kyara_utils.knowledge.readers.package import Package, add, add_item, local, value, written

HEADING = re.compile(r"(?:heading|標題|标题)\s*([1-6])", re.I)
SKIPPED = {"del", "moveFrom", "Fallback", "instrText", "delText", "pPr", "rPr", "sectPr", "tblPr", "tcPr", "trPr", "rt"}
MARKS = {"tab": " ", "br": BREAK, "cr": BREAK, "noBreakHyphen": "-"}
NOTES = ("word/footnotes.xml", "word/endnotes.xml")


def docx_text(path: Path) -> tuple[str, str, dict[str, list[str]]]:
    """Return (title, text, notes taken off) of a .docx. Raises `SkipDocument`."""
    with Package(path) as package:
        root = package.needed("word/document.xml")
        styles, numbers = _styles(package.xml("word/styles.xml")), _numbers(package.xml("word/numbering.xml"))
        body = etree.Element("body")
        _blocks(root.find("{*}body"), body, styles, numbers)
        titles = [p for p in root.iter("{*}p") if styles.get(_style(p), ("", 0))[0] == "title"]
        own = next((text for p in titles if (text := _plain(p))), "")
        notes = [_plain(note) for name in NOTES if (part := package.xml(name)) is not None for note in part]
        dropped = {"footnotes": [note for note in notes if note]}
        return package.title("docProps/core.xml") or own, written(body), {k: v for k, v in dropped.items() if v}


def _plain(element: Any) -> str:
    return " ".join("".join(t.text or "" for t in element.iter("{*}t")).split())


def _styles(root: Any) -> dict[str, tuple[str, int]]:
    """(name, heading level or 0) of each paragraph style by its id."""
    found = {}
    for style in [] if root is None else root.iter("{*}style"):
        name = value(style.find("{*}name"), "val").lower() if style.find("{*}name") is not None else ""
        level = HEADING.fullmatch(name)
        outline = style.find("{*}pPr/{*}outlineLvl")
        by_outline = int(value(outline, "val", "9")) + 1 if outline is not None else 0
        found[value(style, "styleId")] = (name, int(level[1]) if level else by_outline if by_outline <= 6 else 0)
    return found


def _numbers(root: Any) -> dict[tuple[str, str], bool]:
    """Whether a list (number id, level) is numbered."""
    kinds, found = {}, {}
    for abstract in [] if root is None else root.iter("{*}abstractNum"):
        for level in abstract.iter("{*}lvl"):
            kind = level.find("{*}numFmt")
            ordered = kind is not None and value(kind, "val") not in ("bullet", "none")
            kinds[value(abstract, "abstractNumId"), value(level, "ilvl")] = ordered
    for number in [] if root is None else root.iter("{*}num"):
        link = number.find("{*}abstractNumId")
        for (abstract, level), ordered in kinds.items():
            if link is not None and value(link, "val") == abstract:
                found[value(number, "numId"), level] = ordered
    return found


def _style(paragraph: Any) -> str:
    style = paragraph.find("{*}pPr/{*}pStyle")
    return value(style, "val") if style is not None else ""


def _blocks(parent: Any, body: Any, styles: dict, numbers: dict) -> None:
    for element in parent:
        name = local(element)
        if name == "p":
            _paragraph(element, body, styles, numbers)
        elif name == "tbl":
            _table(element, etree.SubElement(body, "table"), styles, numbers)
        elif name not in SKIPPED:
            _blocks(element, body, styles, numbers)  # content controls, inserted blocks


def _paragraph(paragraph: Any, body: Any, styles: dict, numbers: dict) -> None:
    level = styles.get(_style(paragraph), ("", 0))[1]
    number = paragraph.find("{*}pPr/{*}numPr/{*}numId")
    if level:
        target = etree.SubElement(body, f"h{level}")
    elif number is not None and value(number, "val") != "0":
        depth = paragraph.find("{*}pPr/{*}numPr/{*}ilvl")
        at = value(depth, "val", "0") if depth is not None else "0"
        target = add_item(body, int(at), numbers.get((value(number, "val"), at), False))
    else:
        target = etree.SubElement(body, "p")
    _runs(paragraph, target)
    for box in paragraph.iter("{*}txbxContent"):
        if not any(local(above) == "Fallback" for above in box.iterancestors()):
            _blocks(box, body, styles, numbers)


def _runs(parent: Any, target: Any) -> None:
    for element in parent:
        name = local(element)
        if name == "t":
            add(target, element.text or "")
        elif name in MARKS:
            add(target, MARKS[name])
        elif name in ("oMath", "oMathPara"):
            add(target, f" {formula(element)} ")
        elif name == "r":
            _run(element, target)
        elif name not in SKIPPED and name != "txbxContent":
            _runs(element, target)


def _run(run: Any, target: Any) -> None:
    position = run.find("{*}rPr/{*}vertAlign")
    script = {"superscript": "sup", "subscript": "sub"}.get(value(position, "val")) if position is not None else None
    if run.find("{*}rPr/{*}vanish") is None:
        _runs(run, etree.SubElement(target, script) if script else target)


def formula(element: Any) -> str:
    """A formula in one line: a/b, a^(b), a_(b), √(a)."""
    parts = {local(child): child for child in element}
    name = local(element)
    if name == "t":
        return element.text or ""
    if name == "f":
        return f"({formula(parts['num'])})/({formula(parts['den'])})"
    if name in ("sSup", "sSub", "sSubSup"):
        low = f"_({formula(parts['sub'])})" if "sub" in parts else ""
        high = f"^({formula(parts['sup'])})" if "sup" in parts else ""
        return formula(parts["e"]) + low + high
    if name == "rad":
        return f"√({formula(parts['e'])})"
    return "".join(formula(child) for child in element if not local(child).endswith("Pr"))


def _table(table: Any, target: Any, styles: dict, numbers: dict) -> None:
    """Rows and cells; a cell merged with the one above repeats its text."""
    above: dict[int, Any] = {}
    for row in table.iter("{*}tr"):
        if next(row.iterancestors("{*}tbl")) is not table:
            continue
        line, column = etree.SubElement(target, "tr"), 0
        for cell in row.iter("{*}tc"):
            if next(cell.iterancestors("{*}tr")) is row:
                merged = cell.find("{*}tcPr/{*}vMerge")
                span = cell.find("{*}tcPr/{*}gridSpan")
                written_cell = etree.SubElement(
                    line, "td", colspan=value(span, "val", "1") if span is not None else "1"
                )
                if merged is not None and value(merged, "val") != "restart" and column in above:
                    written_cell.text = above[column].text
                    written_cell.extend(deepcopy(list(above[column])))
                else:
                    _blocks(cell, written_cell, styles, numbers)
                    above[column] = written_cell
                column += int(written_cell.get("colspan") or 1)
