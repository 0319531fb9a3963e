"""Choose the small refined set for the second training stage.

Kyara takes the best rows of every category after tagging them "similar to InsTag". InsTag's own sampler
(arXiv 2308.07074, algorithm 1) prefers rows with many tags and spreads them over the tags; it needs no score.
"""

from collections import defaultdict, deque
from heapq import heapify, heappop

from kyara_utils.curation.rows import score
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row

Split = tuple[list[Row], list[Row]]


def refine(rows: list[Row], share: float, by: str = "score") -> list[Row]:
    """Return the refined set, `share` of the rows: by `score` (`select_refined`) or `instag` (`instag_sample`)."""
    if by not in ("score", "instag"):
        raise KyaraError(f"refined_by {by!r} is neither score nor instag; score needs a judge, instag needs tags")
    if by == "score":
        return select_refined(rows, share=share)[0]
    return instag_sample(rows, _limit(len(rows), share, None, None))[0]


def instag_sample(rows: list[Row], n: int) -> Split:
    """Complexity-first diverse sampling: return (at most n sampled rows in the order taken, the others).

    Rows go by number of tags, most first (ties: score, then id). A pass starts with no tag covered and takes
    a row iff it brings a new tag; passes repeat over what is left until n rows are taken. Untagged rows are
    never taken. Time is n log n: a pass visits the tags that are left, and each of them once. Good for 1,000,000 rows.
    """
    tags = [set(row.get("tags") or ()) for row in rows]
    pool = sorted(range(len(rows)), key=lambda i: (-len(tags[i]), -score(rows[i]), rows[i]["id"]))
    ranked = [tags[position] for position in pool]
    waiting: dict[str, deque[int]] = defaultdict(deque)  # by tag: ranks in the pool, best first
    for rank, own in enumerate(ranked):
        for tag in own:
            waiting[tag].append(rank)
    taken: dict[int, None] = {}
    while len(taken) < n and waiting:
        _one_pass(waiting, ranked, taken, n)
    chosen = {pool[rank] for rank in taken}
    return [rows[pool[rank]] for rank in taken], [row for i, row in enumerate(rows) if i not in chosen]


def _one_pass(waiting: dict[str, deque[int]], tags: list[set[str]], taken: dict[int, None], n: int) -> None:
    """Take rows by rank: the next is the best rank among those that wait under a tag not yet covered."""
    heads = [(rank, tag) for tag in list(waiting) if (rank := _head(waiting, tag, taken)) is not None]
    heapify(heads)
    covered: set[str] = set()
    while heads and len(taken) < n:
        rank, tag = heappop(heads)
        if tag not in covered:
            covered |= tags[rank]
            taken[rank] = None


def _head(waiting: dict[str, deque[int]], tag: str, taken: dict[int, None]) -> int | None:
    """The best rank that still waits under the tag; a tag with none is dropped."""
    ranks = waiting[tag]
    while ranks and ranks[0] in taken:
        ranks.popleft()
    if not ranks:
        del waiting[tag]
    return ranks[0] if ranks else None


def select_refined(
    rows: list[Row], *, share: float | None = None, n: int | None = None, per_tag: int | None = None
) -> Split:
    """Return (refined, remaining), both in the order of `rows`: the best rows by score of every group.

    A row's group is its first tag ("" without tags). The best of every group come first, then the second
    best, and so on, until `n` rows or `share` of all rows are taken; `per_tag` bounds a group. Ties go by id.
    Good for 1,000,000 rows.
    """
    limit = _limit(len(rows), share, n, per_tag)
    ranked: list[tuple[int, float, str, int]] = []
    members: dict[str, int] = {}
    for position in sorted(range(len(rows)), key=lambda i: (-score(rows[i]), rows[i]["id"])):
        group = next(iter(rows[position].get("tags") or ()), "")
        rank = members.get(group, 0)
        members[group] = rank + 1
        if per_tag is None or rank < per_tag:
            ranked.append((rank, -score(rows[position]), rows[position]["id"], position))
    chosen = {position for *_, position in sorted(ranked)[:limit]}
    return [r for i, r in enumerate(rows) if i in chosen], [r for i, r in enumerate(rows) if i not in chosen]


def _limit(total: int, share: float | None, n: int | None, per_tag: int | None) -> int:
    if share is not None and n is not None:
        raise KyaraError("select_refined got both share and n; give one of them")
    if share is None and n is None and per_tag is None:
        raise KyaraError("select_refined has no size; give share, n or per_tag")
    if share is not None and not 0.0 <= share <= 1.0:
        raise KyaraError(f"share {share} is outside 0 to 1; 0.14 is Kyara's 500,000 of 3.6 million")
    return round(share * total) if share is not None else total if n is None else n
