"""Articles out of MediaWiki XML dumps (Wikipedia and its sisters), one page in memory at a time.

lxml walks the XML, `wiki_markup` makes text of the markup. Of a dump with the history of its pages the newest revision
counts; characters that XML forbids are taken out of the stream, for one of them would end the reading.
"""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from kyara_utils.knowledge.readers.documents import (
    Document,
    ReaderOptions,
    SkipDocument,
    documents,
    dropped_row,
    skip_row,
)
from kyara_utils.knowledge.readers.encodings import open_bytes
from kyara_utils.knowledge.readers.wiki_markup import wiki_text

REDIRECT = re.compile(r"#(?:redirect|重定向|重新導向)", re.I)
FORBIDDEN = re.compile(r"[\0-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
FORBIDDEN_REFERENCE = re.compile(r"&#(?:x0*(?:[0-8bcef]|1[0-9a-f])|0*(?:[0-8]|1[124-9]|2[0-9]|3[01]));", re.I)
UTF16 = (b"\xff\xfe", b"\xfe\xff")
LONGEST_REFERENCE = 16  # characters
Newest = tuple[str, str]  # time and markup of a page's newest revision


class _Clean:
    """A UTF-8 stream without the characters that XML forbids."""

    def __init__(self, file: BinaryIO):
        self.file, self.decoder, self.carried = file, codecs.getincrementaldecoder("utf-8")("replace"), ""

    def read(self, size: int = -1) -> bytes:
        """Return at least one byte until the file ends."""
        while True:
            block = self.file.read(size)
            text = self.carried + self.decoder.decode(block, final=not block)
            cut = text.rfind("&", max(0, len(text) - LONGEST_REFERENCE)) if block else -1
            self.carried, text = (text[cut:], text[:cut]) if cut >= 0 else ("", text)
            clean = FORBIDDEN_REFERENCE.sub("", FORBIDDEN.sub("", text)).encode()
            if clean or not block:
                return clean


def read_mediawiki(path: Path, stem: str, name: str, options: ReaderOptions) -> Iterator[Document | dict[str, Any]]:
    """Yield the articles of a dump, and a reject row for each redirect (rule `redirect`) and other page (`namespace`).

    Raises `SkipDocument` where the XML breaks off or holds no pages; what came before stays.
    """
    from lxml import etree

    pages, newest = 0, ("", "")
    with open_bytes(path) as file:
        stream = file if file.peek(2)[:2] in UTF16 else _Clean(file)
        tags = ("{*}page", "{*}revision")
        try:
            walk = etree.iterparse(
                stream, events=("end",), tag=tags, resolve_entities=False, no_network=True, huge_tree=True
            )
            for _, element in walk:
                if element.tag.endswith("revision"):
                    newest = _newer(newest, element)
                    element.clear()
                    continue
                pages += 1
                yield from _page(element, newest[1], name, options)
                newest = ("", "")
                element.clear()
                while element.getprevious() is not None:
                    del element.getparent()[0]
        except etree.XMLSyntaxError as error:
            raise SkipDocument("damaged", f"not valid XML after {pages} pages: {error.msg}") from error
    if not pages:
        raise SkipDocument("extraction_failed", "no MediaWiki export: it holds no pages")


def _newer(newest: Newest, revision: Any) -> Newest:
    """The later of two revisions by their time; where no time is given, the one that comes later in the file."""
    time, markup = revision.findtext("{*}timestamp") or "", revision.findtext("{*}text") or ""
    return (time, markup) if time >= newest[0] else newest


def _page(page: Any, markup: str, name: str, options: ReaderOptions) -> Iterator[Document | dict[str, Any]]:
    title = page.findtext("{*}title") or ""
    path = f"{name}#{page.findtext('{*}id') or title}"
    try:
        if (page.findtext("{*}ns") or "0") != "0":
            raise SkipDocument("namespace", title)
        if page.find("{*}redirect") is not None or REDIRECT.match(markup.lstrip()):
            raise SkipDocument("redirect", title)
        text, holes = wiki_text(markup)
        yield from documents(title or path, text, path, options)
        if holes:
            yield dropped_row(path, "unknown_template", holes)
    except SkipDocument as why:
        yield skip_row(path, why)
