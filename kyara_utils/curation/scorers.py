"""Scores of answers from several scorers, the first of which decides, and how far they agree.

`odds` and `digits` ask the step's model; any other name is a reward model's folder or `owner/name` on the Hub. Scales
differ, so scorers are compared by rank alone, and with the length of answers, which many of them follow.
"""

import json
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from kyara_utils.curation.quality_scores import by_digits, by_odds
from kyara_utils.knowledge.vector_store import VectorStore
from kyara_utils.llm import Client
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.stored_rows import having, only
from kyara_utils.runs.tables import Row

if TYPE_CHECKING:
    import numpy as np

BESIDE = {"answer tokens": lambda row: row["answer_tokens"], "number of tags": lambda row: len(row["tags"])}


def score_rows(rows: Sequence[Row], scorers: Sequence[str], client: Client, store: VectorStore) -> Sequence[Row]:
    """Add `score` (the first scorer's) and `scores` (JSON by scorer); None where a scorer gave none.

    A row without a score ranks behind all others.
    """
    if not scorers:
        raise KyaraError("scorers is empty; give odds, digits, or a reward model's folder or owner/name")
    found: dict[str, list[float | None]] = {}
    for name in dict.fromkeys(scorers):
        if name in ("odds", "digits"):
            rows, found[name] = (by_odds if name == "odds" else by_digits)(client, rows)
        else:
            from kyara_utils.curation.reward_models import rewards

            found[name] = rewards(name, rows, store)
    scores = [
        json.dumps(dict(zip(found, own, strict=True)), ensure_ascii=False) for own in zip(*found.values(), strict=True)
    ]
    return having(rows, score=next(iter(found.values())), scores=scores)


def agreement(rows: Sequence[Row]) -> list[Row]:
    """Return {left, right, rho, rows}: Spearman's rank correlation of scorers, answer length and number of tags.

    Each pair over the rows that both have; rho is None for fewer than 3 of them, or where one side never varies.
    """
    rows = only(rows, "scores", "answer_tokens", "tags")
    scores = [json.loads(row["scores"]) for row in rows]
    columns = {name: [own[name] for own in scores] for name in (scores[0] if scores else ())}
    columns |= {name: [of(row) for row in rows] for name, of in BESIDE.items()}
    return [_pair(left, columns[left], right, columns[right]) for left, right in combinations(columns, 2)]


def _pair(left: str, ours: Sequence[float | None], right: str, theirs: Sequence[float | None]) -> Row:
    both = [(a, b) for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]
    rho = _spearman(*zip(*both, strict=True)) if len(both) >= 3 else None
    return {"left": left, "right": right, "rho": rho, "rows": len(both)}


def _spearman(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    import numpy as np

    left, right = (_ranks(np.asarray(values, float)) for values in (ours, theirs))
    if left.std() == 0 or right.std() == 0:
        return None
    return round(float(np.corrcoef(left, right)[0, 1]), 4)


def _ranks(values: "np.ndarray") -> "np.ndarray":
    """Ranks from 0; equal values share the mean of theirs."""
    import numpy as np

    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts + 1) / 2)[place]
