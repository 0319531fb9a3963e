"""Where documents may be cut: headings, sentence ends, and the code blocks and tables that stay whole.

All positions of a batch of documents come out of a few passes over its code points as an array; a regular
expression for each sentence took ten times as long.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from kyara_utils.text.normalise import code_points

if TYPE_CHECKING:
    import numpy as np

SPACE, END, CLOSER, POINT, NEWLINE, CLAUSE, DIGIT = (1 << bit for bit in range(7))
ENDS, CLOSERS, POINTS = "。！？；…｡", "」』”’）》】〉〕", ".!?"
CLAUSES = "，、：,;:|，．"
HEADING = re.compile(r"(#{1,6})[ \t]+(\S.*)")
LONGEST_HEADING = 300  # characters; a longer line that starts with # is text
FENCES = ("```", "~~~")
LINE_MARKS = "#`~| \t"
WIDE = ((0x2E80, 0xA4D0), (0xAC00, 0xD7B0), (0xF900, 0xFB00), (0xFE30, 0xFE50), (0xFF00, 0xFFF0))
Span = tuple[int, str, int, int]  # document, heading path, start, end


class Section(NamedTuple):
    """A run of text of one document under one path of headings: `Layout.cuts[first]` to `Layout.cuts[last]`."""

    document: int
    heading: str
    first: int
    last: int


@dataclass(frozen=True)
class Layout:
    """The texts of some documents, joined, with the places where they may be cut.

    `cuts`: ascending character positions; `costs`: estimated cost of the text before each, and `running` the
    same before every character [characters + 1]; `atoms`: start → end of each code block or table.
    """

    text: str
    cuts: list[int]
    costs: list[int]
    sections: list[Section]
    atoms: dict[int, int]
    running: "np.ndarray"
    classes: "np.ndarray"

    def last_clause(self, start: int, end: int) -> int:
        """Return the last position in (start, end] that follows a clause or a word, or `end`."""
        found = (self.classes[start:end] & (CLAUSE | SPACE)).nonzero()[0]
        return start + int(found[-1]) + 1 if len(found) else end


def lay_out(texts: Sequence[str]) -> Layout:
    """Analyse documents. Headings are lines `# …`, code stands between fences, table rows start with `|`."""
    import numpy as np

    text = "\n".join(texts)
    codes = code_points(text)
    classes = np.take(_tables()[0], codes, mode="clip")
    running = np.zeros(len(codes) + 1, np.int64)
    np.cumsum(np.take(_tables()[1], codes, mode="clip"), out=running[1:])
    spans, atoms = _structures(text, texts, _marked_lines(codes, classes))
    bounds = [position for *_, start, end in spans for position in (start, end)]
    edges = [position for atom in atoms.items() for position in atom]
    cuts = np.concatenate([_sentence_ends(classes), np.array(bounds + edges, np.int64)])
    cuts = _distinct(np.sort(cuts, kind="stable"))
    if atoms:
        cuts = _without_inner(cuts, atoms)
    limits = np.searchsorted(cuts, bounds).tolist()
    sections = [Section(*span[:2], *limits[2 * at : 2 * at + 2]) for at, span in enumerate(spans)]
    return Layout(text, cuts.tolist(), running[cuts].tolist(), sections, atoms, running, classes)


@lru_cache(maxsize=1)
def _tables() -> tuple["np.ndarray", "np.ndarray", "np.ndarray"]:
    """Of every code point: class bits, cost (a twentieth of a token, roughly), may it start a structural line."""
    import numpy as np

    bits, cost = np.zeros(0x110000, np.uint8), np.full(0x110000, 14, np.uint8)
    spaces = "".join(chr(code) for code in range(0x3001) if chr(code).isspace()) + "\u200b\ufeff"
    digits = "0123456789"
    named = {SPACE: spaces, END: ENDS, CLOSER: CLOSERS, POINT: POINTS, NEWLINE: "\n", CLAUSE: CLAUSES, DIGIT: digits}
    for bit, characters in named.items():
        bits[[ord(c) for c in characters]] |= bit
    for start, end in WIDE:
        cost[start:end] = 16
    cost[[ord(c) for c in spaces]] = 3
    cost[[ord(c) for c in digits]] = 10
    cost[ord("A") : ord("Z") + 1], cost[ord("a") : ord("z") + 1] = 8, 5
    cost[0x10000:] = 20
    marks = np.zeros(0x110000, bool)
    marks[[ord(c) for c in LINE_MARKS]] = True
    return bits, cost, marks


def _sentence_ends(classes: "np.ndarray") -> "np.ndarray":
    """Positions after a sentence end or line break, with the closing marks and the space that follow it."""
    import numpy as np

    ends = classes & (END | NEWLINE) != 0
    point = classes & POINT != 0
    point[1:] &= classes[:-1] & DIGIT == 0  # "1. " numbers a list
    ends[1:] |= point[:-1] & (classes[1:] & SPACE != 0)
    glue = classes & (END | CLOSER | SPACE | POINT) != 0
    starts = np.append(np.flatnonzero(glue[:-1] & ~glue[1:]) + 1, len(classes))
    return starts[_distinct(np.searchsorted(starts, np.flatnonzero(ends), "right"))]


def _distinct(ascending: "np.ndarray") -> "np.ndarray":
    """Without repeats; numpy's own `unique` hashes, which is slower on what is sorted already."""
    import numpy as np

    return ascending[np.diff(ascending, prepend=-1) != 0]


def _marked_lines(codes: "np.ndarray", classes: "np.ndarray") -> list[tuple[int, int]]:
    """(start, end) of the lines that may be a heading, a fence or a table row; `end` is past the line break."""
    import numpy as np

    starts = np.concatenate(([0], np.flatnonzero(classes & NEWLINE) + 1))
    ends = np.append(starts[1:], len(codes))
    full = starts < len(codes)
    starts, ends = starts[full], ends[full]
    marked = _tables()[2][codes[starts]]
    return list(zip(starts[marked].tolist(), ends[marked].tolist(), strict=True))


def _structures(text: str, texts: Sequence[str], lines: list[tuple[int, int]]) -> tuple[list[Span], dict[int, int]]:
    """Return (spans, {start: end of each code block and table}) of all documents."""
    spans: list[Span] = []
    atoms: dict[int, int] = {}
    begin = first = 0
    for document, body in enumerate(texts):
        end = begin + len(body)
        last = bisect_left(lines, (end + 1, 0), first)
        found = _structure(text, lines[first:last], begin, end, atoms)
        spans += [(document, *span) for span in found if span[1] < span[2]]
        begin, first = end + 1, last
    return spans, atoms


def _structure(
    text: str, lines: list[tuple[int, int]], begin: int, stop: int, atoms: dict[int, int]
) -> Iterator[tuple[str, int, int]]:
    """Yield (heading path, start, end) of each section of text[begin:stop]; note code blocks and tables in `atoms`."""
    path: list[tuple[int, str]] = []
    fence, opened = "", 0
    table = (-1, -1)  # start and end of the rows so far
    for start, end in lines:
        head = text[start : min(end, start + LONGEST_HEADING)].lstrip(" \t")
        if fence:
            if head.startswith(fence) and not head.strip(fence[0] + " \t\n"):
                atoms[opened], fence = min(end, stop), ""
        elif head.startswith(FENCES):
            fence, opened = head[:3], start
        elif head.startswith("|"):
            if table[1] == start:
                atoms[table[0]] = min(end, stop)
            table = (table[0] if table[1] == start else start, end)
        elif end - start < LONGEST_HEADING and (match := HEADING.match(text, start, min(end, stop))):
            yield _join(path), begin, start
            path = [(level, name) for level, name in path if level < len(match[1])]
            path.append((len(match[1]), match[2].strip().rstrip("#").strip()))
            begin = min(end, stop)
    if fence:
        atoms[opened] = stop
    yield _join(path), begin, stop


def _join(path: list[tuple[int, str]]) -> str:
    return " > ".join(name for _, name in path if name)


def _without_inner(cuts: "np.ndarray", atoms: dict[int, int]) -> "np.ndarray":
    """Drop the cuts that lie inside a code block or table."""
    import numpy as np

    starts, ends = np.array(sorted(atoms.items())).T
    before = np.searchsorted(starts, cuts, "right") - 1
    inside = (before >= 0) & (cuts > starts[before]) & (cuts < ends[before])
    return cuts[~inside]
