"""OpenDocument texts: headings, lists, tables, spans; not what a change has deleted, nor the table of contents."""

from pathlib import Path
from typing import Any

from lxml import etree

from kyara_utils.knowledge.readers.block_text import BREAK
from kyara_utils.knowledge.readers.package import Package, add, local, value, written

SKIPPED = {
    *("tracked-changes", "table-of-content", "alphabetical-index", "annotation", "sequence-decls", "forms", "desc"),
    *("variable-decls", "user-field-decls", "bibliography", "illustration-index", "table-index", "soft-page-break"),
}
MARKS = {"tab": " ", "line-break": BREAK}


def odt_text(path: Path) -> tuple[str, str, dict[str, list[str]]]:
    """Return (title, text, notes taken off) of an .odt. Raises `SkipDocument`."""
    with Package(path) as package:
        root = package.needed("content.xml")
        found = next(root.iter("{*}text"), None)
        scripts = {**_scripts(package.xml("styles.xml")), **_scripts(root)}
        body, notes = etree.Element("body"), []
        if found is not None:
            _blocks(found, body, scripts, notes)
        return package.title("meta.xml"), written(body), {"footnotes": notes} if notes else {}


def _scripts(root: Any) -> dict[str, str]:
    """sup or sub by the name of a text style."""
    found = {}
    for style in [] if root is None else root.iter("{*}style"):
        for settings in style.iter("{*}text-properties"):
            place = value(settings, "text-position").split(" ")[0]
            if place not in ("", "0%"):
                found[value(style, "name")] = "sub" if place.startswith(("sub", "-")) else "sup"
    return found


def _blocks(parent: Any, body: Any, scripts: dict[str, str], notes: list[str]) -> None:
    for element in parent:
        name = local(element)
        if name in SKIPPED:
            continue
        if name == "h":
            level = value(element, "outline-level", "1")
            _runs(element, etree.SubElement(body, f"h{min(int(level), 6) if level.isdigit() else 1}"), scripts, notes)
        elif name == "p":
            _runs(element, etree.SubElement(body, "p"), scripts, notes)
        elif name == "list":
            _list(element, etree.SubElement(body, "ul"), scripts, notes)
        elif name == "table":
            _table(element, etree.SubElement(body, "table"), scripts, notes)
        else:
            _blocks(element, body, scripts, notes)  # sections, frames


def _list(element: Any, target: Any, scripts: dict[str, str], notes: list[str]) -> None:
    for item in element:
        if local(item) in ("list-item", "list-header"):
            _blocks(item, etree.SubElement(target, "li"), scripts, notes)


def _runs(parent: Any, target: Any, scripts: dict[str, str], notes: list[str]) -> None:
    add(target, parent.text or "")
    for element in parent:
        name = local(element)
        if name in MARKS:
            add(target, MARKS[name])
        elif name == "s":
            add(target, " ")
        elif name == "note":
            notes.append(" ".join("".join(element.itertext()).split()))
        elif name == "text-box":
            _blocks(element, etree.SubElement(target, "div"), scripts, notes)
        elif name == "ruby-text":
            add(target, "".join(element.itertext()), "rt")
        elif name not in SKIPPED:
            script = scripts.get(value(element, "style-name")) if name == "span" else None
            _runs(element, etree.SubElement(target, script) if script else target, scripts, notes)
        add(target, element.tail or "")


def _table(table: Any, target: Any, scripts: dict[str, str], notes: list[str]) -> None:
    for row in table.iter("{*}table-row"):
        if next(row.iterancestors("{*}table")) is not table:
            continue
        line = etree.SubElement(target, "tr")
        for cell in row:
            if local(cell) == "covered-table-cell":
                continue
            spans = {"colspan": value(cell, "number-columns-spanned", "1")}
            spans["rowspan"] = value(cell, "number-rows-spanned", "1")
            repeated = value(cell, "number-columns-repeated", "1")
            for _ in range(min(int(repeated), 50) if repeated.isdigit() else 1):
                _blocks(cell, etree.SubElement(line, "td", **spans), scripts, notes)
