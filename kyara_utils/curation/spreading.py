"""Orders in which rows are taken so that they spread over groups or tags: by what each has had, or as InsTag does.

Both are generators: whoever takes from them decides how many rows are enough. Time is n log n in rows and tags.
"""

from collections import defaultdict, deque
from collections.abc import Hashable, Iterator, Sequence
from heapq import heapify, heappop, heappush

Waiting = dict[Hashable, deque[int]]  # by tag or group: ranks in the order of preference, best first


def spread(order: Sequence[int], groups: Sequence[Sequence[Hashable]], costs: Sequence[int]) -> Iterator[int]:
    """Yield all positions: the next is always the first in `order` of the group that has had the least so far.

    order: positions, the preferred first. groups: those of each position, one or several; a row counts with its cost
    (1, or its tokens) in each of them. Among groups that have had the same, the preferred row goes first.
    """
    waiting = _waiting([groups[position] for position in order])
    had: dict[Hashable, int] = defaultdict(int)
    taken: set[int] = set()
    heads = [(0, ranks[0], group) for group, ranks in waiting.items()]
    heapify(heads)
    while heads:
        amount, rank, group = heappop(heads)
        if (head := _head(waiting, group, taken)) is None:
            continue
        if (had[group], head) != (amount, rank):  # it has had more since, or its first row is taken
            heappush(heads, (had[group], head, group))
            continue
        taken.add(rank)
        for own in groups[order[rank]]:
            had[own] += costs[order[rank]]
        heappush(heads, (had[group], head, group))
        yield order[rank]


def instag_order(order: Sequence[int], tags: Sequence[set[str]]) -> Iterator[int]:
    """Yield positions by complexity-first diverse sampling (InsTag, arXiv 2308.07074, algorithm 1).

    Rows go by number of tags, most first, then by `order`. A pass starts with no tag covered and takes a row iff it
    brings a new tag; passes repeat over what is left. Untagged rows are never taken. A pass visits only the tags that
    are left, and each of them once.
    """
    pool = sorted(order, key=lambda position: -len(tags[position]))
    ranked = [tags[position] for position in pool]
    waiting, taken = _waiting(ranked), set[int]()
    while waiting:
        for rank in _one_pass(waiting, ranked, taken):
            yield pool[rank]


def _one_pass(waiting: Waiting, tags: list[set[str]], taken: set[int]) -> Iterator[int]:
    """Take ranks: the next is the best among those that wait under a tag not yet covered."""
    heads = [(rank, tag) for tag in list(waiting) if (rank := _head(waiting, tag, taken)) is not None]
    heapify(heads)
    covered: set[str] = set()
    while heads:
        rank, tag = heappop(heads)
        if tag not in covered:
            covered |= tags[rank]
            taken.add(rank)
            yield rank


def _waiting(groups: Sequence[Sequence[Hashable] | set[str]]) -> Waiting:
    waiting: Waiting = defaultdict(deque)
    for rank, own in enumerate(groups):
        for group in dict.fromkeys(own):
            waiting[group].append(rank)
    return waiting


def _head(waiting: Waiting, group: Hashable, taken: set[int]) -> int | None:
    """The best rank that still waits in the group; a group with none is dropped."""
    ranks = waiting[group]
    while ranks and ranks[0] in taken:
        ranks.popleft()
    if not ranks:
        del waiting[group]
    return ranks[0] if ranks else None
