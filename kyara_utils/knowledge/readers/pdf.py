"""Text of PDF files through PDFium: it keeps the spaces between words and knows the encodings of Chinese fonts.

Needs the extra `documents`. Lines at the top and foot of most pages (a running head, a page number) are taken off.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kyara_utils.knowledge.readers.block_text import WIDE
from kyara_utils.knowledge.readers.documents import Document, ReaderOptions, SkipDocument, documents, dropped_row
from kyara_utils.knowledge.readers.encodings import COMPRESSED

FIX = "reading PDF needs one more package: pip install 'kyara-utils[documents]'"
MOST_PAGES = 5000
EDGE = 2  # lines at either end of a page that may be a running head or foot
FEWEST = 3  # pages
SHARE = 0.5  # of the pages must have the line
NUMBER = re.compile(r"\d+|\b[ivxlc]+\b")
HYPHEN = re.compile(r"(?<=[a-z])(?:\ufffe|\u00ad|-)\n(?=[a-z])")  # a word cut at the line's end
ENDS = tuple("。！？；：」』）】…!?;:")
WIDE_CHARACTER = re.compile(WIDE)
FULL = 0.7  # of the longest line: a shorter one was ended by its writer, not by the margin
PRODUCER = re.compile(r"^(?:Microsoft (?:Word|PowerPoint) - )|\.(?:docx?|pptx?|odt|indd|tex)$", re.I)
Items = Iterator[Document | dict[str, Any]]


def read_pdf(path: Path, stem: str, name: str, options: ReaderOptions) -> Items:
    """Yield the documents of a PDF. Raises `SkipDocument` where it is locked, damaged, or scanned without text."""
    if path.suffix.lower() in COMPRESSED:
        raise SkipDocument("file_type", "unpack it first")
    title, pages = _pages(path)
    lines, gone = without_running_lines(pages)
    text = _joined(lines)
    if not text:
        raise SkipDocument("extraction_failed", f"no text on {len(pages)} pages: scanned pages need OCR first")
    yield from documents(title or stem, text, name, options)
    if gone:
        yield dropped_row(name, "running_lines", sorted(gone))


def _pages(path: Path) -> tuple[str, list[list[str]]]:
    """Return the title of the file's own metadata and the lines of each page."""
    try:
        import pypdfium2
    except ImportError as error:
        raise SkipDocument("missing_package", FIX) from error
    try:
        with pypdfium2.PdfDocument(path) as file:
            pages = [_lines(page) for page, _ in zip(file, range(MOST_PAGES), strict=False)]
            return PRODUCER.sub("", (file.get_metadata_dict().get("Title") or "").strip()), pages
    except pypdfium2.PdfiumError as error:
        locked = "password" in str(error).lower()
        why = "it is locked by a password; save it without one" if locked else str(error)
        raise SkipDocument("locked" if locked else "damaged", why) from error


def _lines(page: Any) -> list[str]:
    text_page = page.get_textpage()
    text = text_page.get_text_range().replace("\r\n", "\n").replace("\r", "\n")
    text_page.close()
    page.close()
    return [line.strip() for line in text.split("\n") if line.strip()]


def without_running_lines(pages: list[list[str]]) -> tuple[list[list[str]], set[str]]:
    """Return the pages' lines without those at an edge that, numbers aside, most pages share, and what was taken."""
    edges = [_edge(page) for page in pages]
    of_pages = ({_shape(page[at]) for at in edge} for page, edge in zip(pages, edges, strict=True))
    shapes = Counter(shape for page in of_pages for shape in page)
    least = max(FEWEST, SHARE * len(pages))
    running = {shape for shape, count in shapes.items() if count >= least}
    kept, gone = [], set()
    for page, edge in zip(pages, edges, strict=True):
        off = {at for at in edge if _shape(page[at]) in running}
        gone |= {page[at] for at in off}
        kept.append([line for at, line in enumerate(page) if at not in off])
    return (kept, gone) if any(kept) else (pages, set())


def _edge(page: list[str]) -> set[int]:
    """Positions of the lines at the top and the foot of a page, fewer on a page of few lines."""
    wide = min(EDGE, len(page) // 4)
    return {*range(wide), *range(len(page) - wide, len(page))}


def _shape(line: str) -> str:
    return NUMBER.sub("#", line.lower())


def _joined(pages: list[list[str]]) -> str:
    """The lines of all pages, put together where a sentence goes on."""
    text = ""
    for page in pages:
        widest = max(map(len, page), default=0)
        for line in page:
            text += line + ("" if _goes_on(line, widest) else "\n")
    return HYPHEN.sub("", text).strip()


def _goes_on(line: str, widest: int) -> bool:
    return len(line) >= FULL * widest and not line.endswith(ENDS) and bool(WIDE_CHARACTER.match(line[-1]))
