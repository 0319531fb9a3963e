"""Office files and e-books as documents: one per file, notes and the like accounted for in rows of their own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from posixpath import join, normpath
from typing import Any
from urllib.parse import unquote

from kyara_utils.knowledge.readers.block_text import text_of
from kyara_utils.knowledge.readers.documents import Document, ReaderOptions, SkipDocument, documents, dropped_row
from kyara_utils.knowledge.readers.docx import docx_text
from kyara_utils.knowledge.readers.encodings import COMPRESSED, decode
from kyara_utils.knowledge.readers.html_text import parse
from kyara_utils.knowledge.readers.odt import odt_text
from kyara_utils.knowledge.readers.package import Package
from kyara_utils.knowledge.readers.slides import pptx_text

NOTE_TYPES = {"footnote", "footnotes", "endnote", "endnotes", "rearnote", "rearnotes", "doc-footnote", "doc-endnotes"}
MARK_TYPES = {"noteref", "pagebreak", "doc-noteref", "doc-pagebreak", "toc", "landmarks"}
Items = Iterator[Document | dict[str, Any]]
Extract = Callable[[Path], tuple[str, str, dict[str, list[str]]]]


def _reader(extract: Extract) -> Callable[[Path, str, str, ReaderOptions], Items]:
    def read(path: Path, stem: str, name: str, options: ReaderOptions) -> Items:
        if path.suffix.lower() in COMPRESSED:
            raise SkipDocument("file_type", "it is compressed already; unpack the outer layer first")
        title, text, dropped = extract(path)
        yield from documents(title or stem, text, name, options)
        yield from (dropped_row(name, rule, parts) for rule, parts in dropped.items())

    return read


def epub_text(path: Path) -> tuple[str, str, dict[str, list[str]]]:
    """Return (title, text, notes taken off) of an .epub, chapters in reading order. Raises `SkipDocument`."""
    with Package(path) as package:
        if package.data("META-INF/encryption.xml") and package.data("META-INF/rights.xml"):
            raise SkipDocument("locked", "its content is encrypted (DRM)")
        container = package.needed("META-INF/container.xml")
        main = next((e.get("full-path") for e in container.iter("{*}rootfile")), "") or ""
        root = package.needed(main)
        parts = {e.get("id"): e for e in root.iter("{*}item")}
        chapters = [parts[e.get("idref")] for e in root.iter("{*}itemref") if e.get("idref") in parts]
        texts, notes = [], []
        for chapter in chapters:
            name = normpath(join(main.rpartition("/")[0], unquote(chapter.get("href") or "")))
            if "nav" not in (chapter.get("properties") or "") and (data := package.data(name)):
                texts.append(_chapter(decode(data), notes))
        return package.title(main), "\n\n".join(filter(None, texts)), {"footnotes": notes} if notes else {}


def _chapter(markup: str, notes: list[str]) -> str:
    tree = parse(markup)
    body = None if tree is None else tree.find("body")
    if body is None:
        return ""
    for element in list(body.iterdescendants()):
        types = {*(element.get("epub:type") or "").split(), *(element.get("role") or "").split()}
        if types & NOTE_TYPES:
            notes.append(" ".join("".join(element.itertext()).split()))
        if types & (NOTE_TYPES | MARK_TYPES) and element.getparent() is not None:
            element.drop_tree()
    try:
        return text_of(body)
    except RecursionError as error:
        raise SkipDocument("extraction_failed", "nested deeper than can be read") from error


read_docx, read_pptx, read_odt, read_epub = map(_reader, (docx_text, pptx_text, odt_text, epub_text))
