"""Pack sentences into passages of at most so many tokens, with about one tokenizer call for each passage.

Tokens are estimated by character classes and the estimate is corrected by each real count, within one document
only, so that its chunks do not depend on its neighbours. What is emitted has been counted, so the budget holds.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from kyara_utils.knowledge.chunks.budget import Budget, Piece
from kyara_utils.knowledge.chunks.joining import balanced, joined
from kyara_utils.knowledge.chunks.layout import FENCES, Layout, Section, lay_out

WORTH_EXTENDING = 0.85  # a passage emptier than this is tried again with the better estimate
HOPELESS = 64  # characters a token: a longer text is not even counted


def pack(texts: Sequence[str], count: Callable[[str], int], max_tokens: int, overlap: int) -> list[list[Piece]]:
    """Return the passages of each document in order; each has at most `max_tokens` tokens."""
    layout, base = lay_out(texts), count("")
    packed: list[list[Piece]] = [[] for _ in texts]
    for document, sections in groupby(layout.sections, key=lambda section: section.document):
        budget = Budget(count, max_tokens, base)
        pieces: list[Piece] = []
        for section in sections:
            packed_section = list(_pack_section(layout, section, budget, overlap))
            pieces += packed_section if overlap else balanced(packed_section, budget)
        packed[document] = joined(pieces, budget)
    return packed


def _pack_section(layout: Layout, section: Section, budget: Budget, overlap: int) -> Iterator[Piece]:
    at, stop = layout.cuts[section.first], layout.cuts[section.last]
    start = at
    while at < stop:
        end, tokens = _take(layout, start, at, section.last, budget)
        if not end and start < at:  # the repeated sentences leave no room
            start = at
            continue
        if end:
            text = layout.text[start:end].strip()
            if text:
                yield section.heading, text, tokens
            start, at = _overlap_start(layout, start, end, budget, overlap) if overlap else end, end
            continue
        end = layout.atoms[at]
        yield from ((section.heading, *part) for part in _torn(layout.text[at:end].strip(), budget))
        start = at = end


def _take(layout: Layout, start: int, at: int, last: int, budget: Budget) -> tuple[int, int]:
    """Return (end, tokens) of the longest passage from `start` that fits and goes past `at`.

    (0, 0) says that only a part of what follows would fit: of an atom, or beside an overlap.
    """
    cuts, costs = layout.cuts, layout.costs
    first = bisect_right(cuts, at)
    spent = costs[first - 1] if cuts[first - 1] == start else int(layout.running[start])
    end = tokens = 0
    while True:
        found = bisect_right(costs, spent + budget.room, first, last + 1) - 1
        if found < first:
            if end:
                return end, tokens
            found = first
        if cuts[found] <= end:
            return end, tokens
        cost = costs[found] - spent
        if found == first and cost > HOPELESS * budget.room:
            return _alone(layout, start, at, cuts[found], budget)
        count = budget.measure(layout.text[start : cuts[found]].strip(), cost)
        if count <= budget.max:
            end, tokens = cuts[found], count
            if count >= WORTH_EXTENDING * budget.max or found == last:
                return end, tokens
        elif end:
            return end, tokens
        elif found == first:
            return _alone(layout, start, at, cuts[found], budget)
        else:
            last = found - 1


def _alone(layout: Layout, start: int, at: int, end: int, budget: Budget) -> tuple[int, int]:
    """What to do about a sentence or atom that does not fit."""
    return (0, 0) if at in layout.atoms or start < at else _take_part(layout, at, end, budget)


def _take_part(layout: Layout, at: int, end: int, budget: Budget) -> tuple[int, int]:
    """Cut a sentence longer than the budget after a clause in the second half of what fits, else anywhere."""
    import numpy as np

    share = 1.0
    while True:
        target = int(layout.running[at]) + int(share * budget.room)
        stop = min(max(int(np.searchsorted(layout.running, target, "right")) - 1, at + 1), end)
        stop = layout.last_clause((at + stop) // 2, stop) if stop < end else stop
        tokens = budget.measure(layout.text[at:stop].strip(), int(layout.running[stop] - layout.running[at]))
        if tokens <= budget.max or stop == at + 1:
            return stop, tokens
        share, end = share * 0.9, stop - 1


def _overlap_start(layout: Layout, start: int, end: int, budget: Budget, overlap: int) -> int:
    """Start of the last whole sentences before `end` within `overlap` tokens, never of a part of an atom."""
    cost = int(layout.running[end]) - int(overlap / budget.rate)
    found, last = bisect_left(layout.costs, cost), bisect_left(layout.cuts, end)
    repeated = layout.cuts[found:last]
    return repeated[0] if repeated and repeated[0] > start and layout.atoms.keys().isdisjoint(repeated) else end


def _torn(text: str, budget: Budget) -> Iterator[tuple[str, int]]:
    """Cut a code block or table that is too long between lines; each part gets the fences or head row again."""
    head, lines, foot = _frame(text)
    if budget.count("\n".join([*head, *foot])) > budget.max // 2:
        head, lines, foot = [], [*head, *lines, *foot], []
    queue = deque([lines])
    while queue:
        part = queue.popleft()
        whole = "\n".join([*head, *part, *foot]).strip()
        tokens = budget.count(whole) if len(whole) < HOPELESS * budget.max else budget.max + 1
        if tokens <= budget.max or sum(map(len, part)) < 2:
            yield from [(whole, tokens)] if whole else []
        elif len(part) > 1:
            queue.extendleft([part[len(part) // 2 :], part[: len(part) // 2]])
        else:
            half = len(part[0]) // 2
            queue.extendleft([[part[0][half:]], [part[0][:half]]])


def _frame(text: str) -> tuple[list[str], list[str], list[str]]:
    """Split into (lines to repeat before, lines to share out, lines to repeat after)."""
    lines = text.split("\n")
    if lines[0].startswith(FENCES):
        closed = len(lines) > 1 and lines[-1].strip() == lines[0][:3]
        return lines[:1], lines[1 : -1 if closed else None], [lines[0][:3]]
    rule = len(lines) > 2 and not lines[1].strip("|-: ")
    return lines[: 2 if rule else 1], lines[2 if rule else 1 :], []
