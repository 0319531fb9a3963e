"""Choose the small refined set for the second training stage.

Kyara takes the best rows of every category after tagging them "similar to InsTag". InsTag's own sampler
(arXiv 2308.07074, algorithm 1) prefers rows with many tags and spreads them over the tags; it needs no score.
"""

from kyara_utils.curation.rows import Row, score
from kyara_utils.runs.errors import KyaraError

Split = tuple[list[Row], list[Row]]


def instag_sample(rows: list[Row], n: int) -> Split:
    """Complexity-first diverse sampling: return (at most n sampled rows in the order taken, the others).

    Rows go by number of tags, most first (ties: score, then id). A pass starts with no tag covered and takes
    a row iff it brings a new tag; passes repeat over what is left until n rows are taken. Untagged rows are
    never taken.
    """
    pool = sorted(range(len(rows)), key=lambda i: (-len(_tags(rows[i])), -score(rows[i]), rows[i]["id"]))
    taken: list[int] = []
    while len(taken) < n:
        chosen = _one_pass([i for i in pool if _tags(rows[i])], rows, n - len(taken))
        if not chosen:
            break
        taken += chosen
        pool = [i for i in pool if i not in set(chosen)]
    return [rows[i] for i in taken], [row for i, row in enumerate(rows) if i not in set(taken)]


def _one_pass(pool: list[int], rows: list[Row], room: int) -> list[int]:
    covered: set[str] = set()
    chosen: list[int] = []
    for position in pool:
        if len(chosen) == room:
            break
        if _tags(rows[position]) - covered:
            covered |= _tags(rows[position])
            chosen.append(position)
    return chosen


def select_refined(
    rows: list[Row], *, share: float | None = None, n: int | None = None, per_tag: int | None = None
) -> Split:
    """Return (refined, remaining), both in the order of `rows`: the best rows by score of every group.

    A row's group is its first tag ("" without tags). The best of every group come first, then the second
    best, and so on, until `n` rows or `share` of all rows are taken; `per_tag` bounds a group. Ties go by id.
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


def _tags(row: Row) -> set[str]:
    return set(row.get("tags") or ())
