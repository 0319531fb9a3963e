"""Lines that most pages of one site share: its name, a breadcrumb, a footer. Learnt over a folder, then dropped.

What stands on most pages of a site says nothing about any of them, yet it opens every document and reaches every
chunk. Headings, list items and table rows recur for good reasons, so they go only at a page's two ends; other lines
go wherever they stand.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

SAMPLE = 100  # pages of a folder that are read twice to learn from
FEWEST = 4  # different pages: fewer tell nothing
SHARE = 0.5  # of the pages must have a line for it to be the site's
STRUCTURE = ("#", "|", "- ", "  ", "```", "~~~")
SEPARATORS = (" - ", " – ", " — ", " | ", " :: ", " » ", "｜", " · ", "_")


class Repeated:
    """What the pages of one folder share, and how often it was dropped."""

    def __init__(self, pages: Iterable[tuple[str, str]]):
        different = {text: title for title, text in pages if text}
        lines = Counter(line for text in different for line in {part.strip() for part in text.split("\n")})
        names = Counter(name for title in different.values() for name in _names(title))
        least = max(FEWEST - 1, SHARE * len(different))
        enough = len(different) >= FEWEST
        self.lines = {line for line, n in lines.items() if enough and line and n > least and not _is_fence(line)}
        self.names = {name for name, n in names.items() if enough and n > least}
        self.dropped: Counter[str] = Counter()

    def strip(self, title: str, text: str) -> tuple[str, str]:
        """Return title and text without what the folder's pages share; a text of nothing else stays as it is."""
        kept, gone = self._without_inner(self._without_ends(text.split("\n")))
        if any(line.strip() for line in kept):
            text = "\n".join(kept).strip("\n")
            self.dropped.update(gone)
        for name in _names(title):
            if name in self.names and len(title) > len(name):
                title = title.removesuffix(name).rstrip(" -–—|:»｜·_")
                self.dropped[name] += 1
        return title, text

    def _without_ends(self, lines: list[str]) -> tuple[list[str], list[str]]:
        start, end = 0, len(lines)
        while start < end and self._shared(lines[start]):
            start += 1
        while start < end and start and (not lines[start - 1].strip() or lines[start - 1].startswith("##")):
            start -= 1  # a heading over text that is the page's own
        while end > start and self._shared(lines[end - 1]):
            end -= 1
        return lines[start:end], [line.strip() for line in lines[:start] + lines[end:] if line.strip()]

    def _shared(self, line: str) -> bool:
        return not line.strip() or (line.strip() in self.lines and not line.startswith("|"))

    def _without_inner(self, ends: tuple[list[str], list[str]]) -> tuple[list[str], list[str]]:
        lines, gone = ends
        kept, fenced = [], False
        for line in lines:
            fenced ^= _is_fence(line)
            if line.strip() in self.lines and not fenced and not line.startswith(STRUCTURE):
                gone.append(line.strip())
            else:
                kept.append(line)
        return kept, gone


def _is_fence(line: str) -> bool:
    return line.lstrip().startswith(("```", "~~~"))


def _names(title: str) -> list[str]:
    """What may be the site's name: the last part of a title, after a separator."""
    return [title[at + len(mark) :].strip() for mark in SEPARATORS if (at := title.rfind(mark)) > 0]


def evenly(items: list[Any], most: int = SAMPLE) -> list[Any]:
    """Return at most `most` items, spread evenly over all of them."""
    step = max(1, -(-len(items) // most))
    return items[::step]
