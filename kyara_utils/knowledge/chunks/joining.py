"""Fragments join a neighbour: a passage of a few words answers nothing and matches everything.

Help pages and glossaries are a heading over one sentence, again and again. What is joined keeps its subject: the
headings that both share are the path of the joined passage, those of one alone stand as a line above its text.
"""

from collections import deque
from itertools import takewhile

from kyara_utils.knowledge.chunks.budget import Budget, Piece
from kyara_utils.knowledge.chunks.layout import lay_out

STEP = " > "


def balanced(pieces: list[Piece], budget: Budget) -> list[Piece]:
    """Give the last fragment of a section as many sentences of the passage before it as it needs."""
    if len(pieces) < 2 or not budget.is_fragment(*pieces[-1][1:]):
        return pieces
    (heading, before, _), (_, fragment, _) = pieces[-2:]
    layout = lay_out([before])
    for cut in reversed(layout.cuts[:-1]):
        first, last = before[:cut].strip(), f"{before[cut:]}\n{fragment}".strip()
        counts = budget.count(first), budget.count(last)
        if not cut or cut in layout.atoms or counts[1] > budget.max or budget.is_fragment(first, counts[0]):
            return pieces
        if not budget.is_fragment(last, counts[1]):
            return [*pieces[:-2], (heading, first, counts[0]), (heading, last, counts[1])]
    return pieces


def joined(pieces: list[Piece], budget: Budget) -> list[Piece]:
    """Join each fragment to the neighbour that shares more of its headings, else to the other, where that fits."""
    done: list[Piece] = []
    rest = deque(pieces)
    while rest:
        piece = rest.popleft()
        before = _both(done[-1], piece, budget) if done and budget.is_fragment(*piece[1:]) else None
        after = None
        if budget.is_fragment(*piece[1:]) and rest and not (before and _prefers(done[-1], piece, rest[0])):
            after = _both(piece, rest[0], budget)
        if after:
            rest[0] = after
        elif before:
            done[-1] = before
        else:
            done.append(piece)
    return done


def _prefers(before: Piece, piece: Piece, after: Piece) -> bool:
    """Say whether a piece belongs to the one before it at least as much as to the one after."""
    return len(_shared(before[0], piece[0])) >= len(_shared(piece[0], after[0]))


def _shared(one: str, other: str) -> list[str]:
    pairs = zip(one.split(STEP), other.split(STEP), strict=False)
    return [name for name, _ in takewhile(lambda pair: pair[0] == pair[1], pairs) if name]


def _both(one: Piece, other: Piece, budget: Budget) -> Piece | None:
    """Two pieces as one, or None where it would not fit."""
    if one[2] + other[2] - budget.base > budget.max:
        return None
    path = _shared(one[0], other[0])
    parts = [_under(piece, len(path)) for piece in (one, other)]
    text = ("\n" if one[0] == other[0] else "\n\n").join(parts)
    tokens = budget.count(text)
    return (STEP.join(path), text, tokens) if tokens <= budget.max else None


def _under(piece: Piece, depth: int) -> str:
    """The text of a piece below the headings that its new path does not name."""
    own = [name for name in piece[0].split(STEP)[depth:] if name]
    return "\n".join([STEP.join(own), piece[1]] if own else [piece[1]])
