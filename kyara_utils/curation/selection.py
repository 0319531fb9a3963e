"""Choose the small refined set for the second training stage, under a budget of rows or tokens.

Kyara takes the best rows of every category after tagging them "similar to InsTag". That a score chooses better than
chance must be shown: at a million rows hardly any does ("Rethinking Data Selection at Scale: Random Selection is Almost
All You Need", arXiv 2410.09335). So random, longest and tag-balanced rows can be chosen under the same budget.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from math import inf

from kyara_utils.curation.rows import best_first, score
from kyara_utils.curation.spreading import instag_order, spread
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.stored_rows import having, only, picked, taken
from kyara_utils.runs.tables import Row, turns

REFINED, RANKED_LOWER, OVER_BUDGET, NO_TAGS = "refined", "ranked_lower", "over_budget", "no_tags"
ROUNDS = 4  # user turns; rows of more are one class
LENGTHS = (64, 256, 1024)  # tokens of the answers: the classes of length end below these
AXES: dict[str, Callable[[Row], str]] = {
    "task": lambda row: next(iter(row["tags"] or ()), ""),
    "lang": lambda row: row["lang"],
    "rounds": lambda row: str(min(ROUNDS, len(turns(row, "user")))),
    "length": lambda row: next((f"< {end}" for end in LENGTHS if row["answer_tokens"] < end), f"≥ {LENGTHS[-1]}"),
}
WAYS: dict[str, str] = {
    "score": "the best rows of every class in `balance`",
    "instag": "rows of most tags, spread over the tags",
    "random": "rows drawn by the seed, whatever they are",
    "longest": "rows with the most tokens in their answers",
    "tags": "rows drawn by the seed, spread over all tags",
}


def with_tokens(rows: Sequence[Row], count: Callable[[str], int]) -> Sequence[Row]:
    """Add `tokens` (all turns) and `answer_tokens` (the assistant's), by `count`, without a chat template."""
    tokens, answers = [], []
    for row in only(rows, "messages"):
        sizes = [(message["role"], count(message["content"] or "")) for message in row["messages"]]
        tokens.append(sum(size for _, size in sizes))
        answers.append(sum(size for role, size in sizes if role == "assistant"))
    return having(rows, tokens=tokens, answer_tokens=answers)


def choose(
    rows: Sequence[Row], by: str, share: float, tokens: int = 0, balance: Sequence[str] = ("task",), seed: int = 0
) -> Sequence[Row]:
    """Return the rows in their order with `selection`: `refined`, or the rule by which a row was left.

    by: one of `WAYS`. The refined set takes `share` of the rows, or rows of at most `tokens` tokens where that is above
    0; groups then get equal tokens instead of equal rows. Rules: `ranked_lower`, `over_budget` (it did not fit into the
    tokens that were left), `no_tags` (InsTag takes no row without). The same rows give the same set in any order. Rows
    hold `tokens` and `answer_tokens` (`with_tokens`). Time is n log n, memory some 200 bytes a row: good for 4,000,000.
    """
    _check(by, share, tokens, balance)
    chosen, over = _taken(rows, by, share, tokens, balance, seed)
    untagged = {at for at, row in enumerate(only(rows, "tags")) if by == "instag" and not row["tags"]}
    rules = dict.fromkeys(untagged, NO_TAGS) | dict.fromkeys(over, OVER_BUDGET) | dict.fromkeys(chosen, REFINED)
    return having(rows, selection=[rules.get(at, RANKED_LOWER) for at in range(len(rows))])


def refined_set(rows: Sequence[Row]) -> Sequence[Row]:
    """The rows that `choose` took."""
    return taken(rows, [at for at, row in enumerate(only(rows, "selection")) if row["selection"] == REFINED])


def _taken(
    rows: Sequence[Row], by: str, share: float, tokens: int, balance: Sequence[str], seed: int
) -> tuple[set[int], set[int]]:
    """Positions of (rows that are taken, rows that did not fit)."""
    costs = [row["tokens"] for row in only(rows, "tokens")] if tokens else [1] * len(rows)
    return _fill(_ORDERS[by](rows, costs, balance, seed), costs, tokens or round(share * len(rows)))


def compared_ways(rows: Sequence[Row], balance: Sequence[str] = ("task",), seed: int = 0) -> list[Row]:
    """What every way takes at the tokens of the refined set: {by, rows, tokens, tags, coverage, complexity, …}.

    coverage: share of all tags; complexity: tags a row; score, answer_tokens: means; common: share of the refined
    tokens that this way takes too. rows have passed `choose`. A score that chooses no other rows than length or chance
    shows here before anything is trained.
    """
    brief = only(rows, "selection", "tokens", "answer_tokens", "tags", "score")
    chosen = {at for at, row in enumerate(brief) if row["selection"] == REFINED}
    tokens = sum(row["tokens"] for row in picked(brief, sorted(chosen)))
    known = {tag for row in brief for tag in row["tags"]}
    found = []
    for by in WAYS if tokens else ():
        way = _taken(rows, by, 0.0, tokens, balance, seed)[0]
        own = picked(brief, sorted(way))
        tags, scores = {tag for row in own for tag in row["tags"]}, [score(row) for row in own if score(row) > -inf]
        means = {"complexity": [len(row["tags"]) for row in own], "score": scores}
        means |= {"answer_tokens": [row["answer_tokens"] for row in own]}
        found.append(
            {"by": by, "rows": len(own), "tokens": sum(row["tokens"] for row in own), "tags": len(tags)}
            | {"coverage": round(len(tags) / max(1, len(known)), 4)}
            | {name: round(sum(values) / max(1, len(values)), 4) for name, values in means.items()}
            | {"common": round(sum(row["tokens"] for row in picked(brief, sorted(way & chosen))) / tokens, 4)}
        )
    return found


def selection_rows(rows: Sequence[Row]) -> list[Row]:
    """Return {by, group, rows, tokens, refined_rows, refined_tokens}: what was there and what was taken.

    Rows have passed `choose`; `by` is `rule` (which says why rows were left), `source` or one of `AXES`.
    """
    keys = {"rule": lambda row: row["selection"], "source": lambda row: row["source"], **AXES}
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        for by, key in keys.items():
            empty = {"by": by, "group": key(row), "rows": 0, "tokens": 0, "refined_rows": 0, "refined_tokens": 0}
            entry = found.setdefault((by, empty["group"]), empty)
            for prefix in ("", "refined_") if row["selection"] == REFINED else ("",):
                entry[f"{prefix}rows"] += 1
                entry[f"{prefix}tokens"] += row["tokens"]
    place = list(keys).index
    return sorted(found.values(), key=lambda entry: (place(entry["by"]), -entry["rows"], entry["group"]))


def _fill(order: Iterable[int], costs: Sequence[int], budget: int) -> tuple[set[int], set[int]]:
    """Take positions while they fit; return (taken, those that did not fit when their turn came)."""
    least, taken, over = min(costs, default=0), set[int](), set[int]()
    for position in order if budget >= least else ():
        fits = costs[position] <= budget
        (taken if fits else over).add(position)
        budget -= costs[position] if fits else 0
        if budget < max(least, 1):
            break
    return taken, over


def _by_score(rows: Sequence[Row], costs: list[int], balance: Sequence[str], seed: int) -> Iterator[int]:
    groups = [(tuple(AXES[axis](row) for axis in balance),) for row in rows]
    return spread(best_first(rows), groups, costs)


def _by_instag(rows: Sequence[Row], costs: list[int], balance: Sequence[str], seed: int) -> Iterator[int]:
    return instag_order(best_first(rows), [set(row["tags"] or ()) for row in only(rows, "tags")])


def _at_random(rows: Sequence[Row], costs: list[int], balance: Sequence[str], seed: int) -> Iterator[int]:
    """By a hash of seed and id, so that neither the order of the rows nor their number changes who goes first."""
    keys = [blake2b(f"{seed} {row['id']}".encode(), digest_size=16).digest() for row in only(rows, "id")]
    return iter(sorted(range(len(rows)), key=keys.__getitem__))


def _by_length(rows: Sequence[Row], costs: list[int], balance: Sequence[str], seed: int) -> Iterator[int]:
    keys = [(-row["answer_tokens"], row["id"]) for row in only(rows, "answer_tokens", "id")]
    return iter(sorted(range(len(rows)), key=keys.__getitem__))


def _by_tags(rows: Sequence[Row], costs: list[int], balance: Sequence[str], seed: int) -> Iterator[int]:
    return spread(
        list(_at_random(rows, costs, balance, seed)), [row["tags"] or [""] for row in only(rows, "tags")], costs
    )


_ORDERS = dict(zip(WAYS, (_by_score, _by_instag, _at_random, _by_length, _by_tags), strict=True))


def _check(by: str, share: float, tokens: int, balance: Sequence[str]) -> None:
    if by not in WAYS:
        raise KyaraError(f"refined_by {by!r} is not known; choose from {', '.join(WAYS)}")
    if strange := [axis for axis in balance if axis not in AXES]:
        raise KyaraError(f"refined_balance {', '.join(map(str, strange))} is not known; choose from {', '.join(AXES)}")
    if not 0.0 <= share <= 1.0:
        raise KyaraError(f"refined_share {share} is outside 0 to 1; 0.14 is Kyara's 500,000 of 3.6 million")
    if tokens < 0:
        raise KyaraError(f"refined_tokens {tokens} is below 0; 0 lets refined_share decide")
