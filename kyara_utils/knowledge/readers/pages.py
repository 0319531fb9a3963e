"""Web pages of a folder: each page's text, less the lines that most pages of its site share."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kyara_utils.knowledge.readers.documents import (
    Document,
    ReaderOptions,
    SkipDocument,
    documents,
    dropped_row,
)
from kyara_utils.knowledge.readers.encodings import DAMAGED, decode, open_bytes
from kyara_utils.knowledge.readers.file_list import Found, kind_of
from kyara_utils.knowledge.readers.html_text import html_to_text
from kyara_utils.knowledge.readers.repeated import Repeated, evenly

TYPES = (".html", ".htm", ".xhtml")
LONGEST_PAGE = 1 << 25  # bytes of an HTML page
Items = Iterator[Document | dict[str, Any]]


@dataclass
class Pages:
    """The pages of a corpus by site, which is the top-level folder; a site is learnt when its first page is read."""

    sites: dict[str, list[Path]] = field(default_factory=dict)
    learnt: dict[str, Repeated] = field(default_factory=dict)

    @classmethod
    def of(cls, found: list[Found]) -> "Pages":
        """Sort the pages among the files of a corpus into sites."""
        pages = cls()
        for item in found:
            if item.skip is None and kind_of(item.path)[0] in TYPES:
                pages.sites.setdefault(_site(item.name), []).append(item.path)
        return pages

    def read(self, path: Path, stem: str, name: str, options: ReaderOptions) -> Items:
        """Yield the document of one page. Raises `SkipDocument` where it has no text of its own."""
        title, text = page_text(path)
        title, text = self._repeated(_site(name)).strip(title, text)
        if not text:
            raise SkipDocument("extraction_failed", "no main content found")
        yield from documents(title or stem, text, name, options)

    def _repeated(self, site: str) -> Repeated:
        if site not in self.learnt:
            self.learnt[site] = Repeated(_sample(self.sites.get(site, [])))
        return self.learnt[site]

    def rows(self) -> Items:
        """Yield a row for each shared line that was dropped, with the number of pages it stood on."""
        for site, repeated in self.learnt.items():
            for line, count in repeated.dropped.most_common():
                yield dropped_row(site or ".", "repeated_line", [line]) | {"detail": f"taken off {count} times"}


def _site(name: str) -> str:
    return name.partition("/")[0] if "/" in name else ""


def _sample(paths: list[Path]) -> Iterator[tuple[str, str]]:
    for path in evenly(paths):
        try:
            yield page_text(path)
        except (SkipDocument, *DAMAGED):
            continue


def page_text(path: Path) -> tuple[str, str]:
    """Return (title, text) of a page. Raises `SkipDocument`, whatever the extractor stumbles on."""
    with open_bytes(path) as file:
        data = file.read(LONGEST_PAGE + 1)
    if len(data) > LONGEST_PAGE:
        raise SkipDocument("too_large", f"the page is longer than {LONGEST_PAGE} bytes")
    markup = decode(data)
    try:
        return html_to_text(markup)
    except SkipDocument:
        raise
    except Exception as error:  # whatever an extractor stumbles on, it is this page that is broken
        raise SkipDocument("extraction_failed", f"{type(error).__name__}: {error}") from error
