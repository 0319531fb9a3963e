"""Zip files of XML parts, which DOCX, PPTX, ODT and EPUB all are, and the HTML tree that their readers build.

python-docx leaves out inserted text, content controls and formulas, python-pptx brings Pillow and a spreadsheet
writer, EbookLib is under the AGPL; the formats themselves are a few element names, so lxml reads them here.
"""

import zipfile
from posixpath import join, normpath
from typing import Any

from lxml import etree

from kyara_utils.knowledge.readers.block_text import BREAK, text_of
from kyara_utils.knowledge.readers.documents import SkipDocument

LARGEST_PART = 1 << 28  # bytes unpacked; a part that claims more is no document
OLD_BINARY = b"\xd0\xcf\x11\xe0"  # of Office before 2007, and of files locked by a password


class Package:
    """The parts of an open zip file by name. Raises `SkipDocument` where one is missing or damaged."""

    def __init__(self, path: Any):
        with open(path, "rb") as file:
            if file.read(4) == OLD_BINARY:
                raise SkipDocument("locked", "locked by a password, or of the old binary kind; save it anew without")
        try:
            self.zip = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise SkipDocument("damaged", str(error)) from error

    def __enter__(self) -> "Package":
        return self

    def __exit__(self, *_: Any) -> None:
        self.zip.close()

    def data(self, name: str) -> bytes | None:
        """The bytes of a part, None where there is none."""
        try:
            if self.zip.getinfo(name).file_size > LARGEST_PART:
                raise SkipDocument("too_large", f"{name} unpacks to more than {LARGEST_PART} bytes")
            return self.zip.read(name)
        except KeyError:
            return None
        except SkipDocument:
            raise
        except Exception as error:  # zlib.error and its like, which have no common base
            raise SkipDocument("damaged", f"{name}: {error}") from error

    def xml(self, name: str) -> Any:
        """The root element of a part, None where there is none; entities are not expanded."""
        data = self.data(name)
        if data is None:
            return None
        try:
            return etree.fromstring(
                data, etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True)
            )
        except etree.XMLSyntaxError as error:
            raise SkipDocument("damaged", f"{name}: {error.msg}") from error

    def needed(self, name: str) -> Any:
        """The root element of the part without which there is no document."""
        root = self.xml(name)
        if root is None:
            raise SkipDocument("damaged", f"no part {name}: this is another kind of file")
        return root

    def related(self, name: str) -> dict[str, str]:
        """The parts that a part of an Office file refers to, by relation id."""
        folder, _, file = name.rpartition("/")
        root = self.xml(f"{folder}/_rels/{file}.rels")
        links = [] if root is None else [e for e in root if e.get("TargetMode") != "External"]
        return {e.get("Id"): normpath(join("/" + folder, e.get("Target") or "")).lstrip("/") for e in links}

    def title(self, *names: str) -> str:
        """The title in a part of metadata."""
        roots = [root for name in names if (root := self.xml(name)) is not None]
        return next((e.text.strip() for root in roots for e in root.iter("{*}title") if (e.text or "").strip()), "")


def local(element: Any) -> str:
    """Tag without its namespace, "" of comments and instructions."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def value(element: Any, name: str, default: str = "") -> str:
    """An attribute by its local name."""
    return next((v for key, v in element.attrib.items() if key.rpartition("}")[2] == name), default)


def add(parent: Any, text: str, tag: str = "") -> None:
    """Append text to an element, in an element of its own where `tag` is given."""
    text = "".join(c for c in text if c == BREAK or c >= " " or c in "\t\n")
    if tag:
        etree.SubElement(parent, tag).text = text
    elif len(parent):
        parent[-1].tail = (parent[-1].tail or "") + text
    else:
        parent.text = (parent.text or "") + text


def add_item(body: Any, level: int, ordered: bool) -> Any:
    """Append an item to the list at the end of `body`, nested `level` deep, and return it."""
    target, tag = body, "ol" if ordered else "ul"
    for depth in range(min(level, 8) + 1):
        last = target[-1] if len(target) else None
        if last is None or last.tag not in ("ul", "ol") or (depth == level and last.tag != tag):
            last = etree.SubElement(target, tag)
        if depth == min(level, 8):
            return etree.SubElement(last, "li")
        target = last[-1] if len(last) else etree.SubElement(last, "li")
    return target


def written(body: Any) -> str:
    """Text of a built tree. Raises `SkipDocument` where it is too deep to walk."""
    try:
        return text_of(body)
    except RecursionError as error:
        raise SkipDocument("extraction_failed", "nested deeper than can be read") from error
