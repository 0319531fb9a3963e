"""PowerPoint slides in their order: titles as headings, then text, lists, tables, and the speaker's notes."""

from pathlib import Path
from typing import Any

from lxml import etree

from kyara_utils.knowledge.readers.block_text import BREAK
from kyara_utils.knowledge.readers.docx import formula
from kyara_utils.knowledge.readers.package import Package, add, add_item, local, value, written

FURNITURE = {"dt", "ftr", "sldNum", "hdr", "sldImg"}
TITLES = {"title", "ctrTitle"}


def pptx_text(path: Path) -> tuple[str, str, dict[str, list[str]]]:
    """Return (title, text, nothing taken off) of a .pptx. Raises `SkipDocument`."""
    main = "ppt/presentation.xml"
    with Package(path) as package:
        root, parts = package.needed(main), package.related(main)
        names = [parts.get(_relation(slide), "") for slide in root.iter("{*}sldId")]
        body = etree.Element("body")
        for name in names:
            if (slide := package.xml(name)) is not None and slide.get("show") != "0":
                _slide(slide, body)
                for other in package.related(name).values():
                    if "notesSlide" in other and (notes := package.xml(other)) is not None:
                        _slide(notes, body)
        first = next((h.text for h in body.iter("h2") if h.text), "")
        return package.title("docProps/core.xml") or (first or "").replace(BREAK, " "), written(body), {}


def _relation(slide: Any) -> str:
    """The relation id; the plain attribute `id` beside it is another number."""
    return next((v for key, v in slide.attrib.items() if key.endswith("}id")), "")


def _slide(slide: Any, body: Any) -> None:
    shapes = [s for s in slide.iter("{*}sp", "{*}graphicFrame") if not _in_fallback(s)]
    for shape in sorted(shapes, key=lambda shape: _kind(shape) not in TITLES):  # the title may come last in the file
        kind = _kind(shape)
        if kind in FURNITURE:
            continue
        for paragraph in shape.iter("{*}p"):
            if not any(local(above) == "tbl" for above in paragraph.iterancestors()):
                _paragraph(paragraph, body, kind)
        for table in shape.iter("{*}tbl"):
            _table(table, etree.SubElement(body, "table"))


def _in_fallback(shape: Any) -> bool:
    return any(local(above) == "Fallback" for above in shape.iterancestors())


def _kind(shape: Any) -> str:
    place = shape.find("{*}nvSpPr/{*}nvPr/{*}ph")
    return "" if place is None else value(place, "type", "body")


def _paragraph(paragraph: Any, body: Any, kind: str) -> None:
    settings = paragraph.find("{*}pPr")
    level = int(value(settings, "lvl", "0")) if settings is not None else 0
    if not any((t.text or "").strip() for t in paragraph.iter("{*}t")):
        return
    if kind in TITLES:
        target = etree.SubElement(body, "h2")
    elif kind == "body" or (settings is not None and settings.find("{*}buChar") is not None):
        target = add_item(body, level, settings is not None and settings.find("{*}buAutoNum") is not None)
    else:
        target = etree.SubElement(body, "p")
    _runs(paragraph, target)


def _runs(parent: Any, target: Any) -> None:
    for element in parent:
        name = local(element)
        if name == "r":
            settings = element.find("{*}rPr")
            shift = int(value(settings, "baseline", "0").rstrip("%") or 0) if settings is not None else 0
            text = "".join(t.text or "" for t in element.iter("{*}t"))
            add(target, text, "sup" if shift > 0 else "sub" if shift < 0 else "")
        elif name == "br":
            add(target, BREAK)
        elif name in ("oMath", "oMathPara"):
            add(target, f" {formula(element)} ")
        elif name != "Fallback":
            if name == "t":
                add(target, element.text or "")
            _runs(element, target)


def _table(table: Any, target: Any) -> None:
    for row in table.iter("{*}tr"):
        line = etree.SubElement(target, "tr")
        for cell in row.iter("{*}tc"):
            if cell.get("hMerge") or cell.get("vMerge"):
                etree.SubElement(line, "td")
                continue
            written_cell = etree.SubElement(line, "td")
            for paragraph in cell.iter("{*}p"):
                _runs(paragraph, etree.SubElement(written_cell, "p"))
