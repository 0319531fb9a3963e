"""Exactly N accepted rows from as many candidates as it takes, and no more than allowed."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from kyara_utils.runs import reject
from kyara_utils.runs.tables import Row

log = logging.getLogger(__name__)
Work = Callable[[list[Any]], tuple[list[Row], list[Row]]]


def until_accepted(
    work: Work, candidates: Sequence[Any], wanted: int, step: str, batch: int = 0
) -> tuple[list[Row], list[Row], int]:
    """Send candidates through `work(list) -> (kept, rejects)`, batch by batch, until `wanted` rows are kept.

    Returns (kept, rejects, candidates used). Rows kept beyond the number become rejects of the rule `surplus`, so that
    candidates used = rows out + rejects. Batches have a fixed size (default: what is wanted) so that a rerun asks the
    same calls; fewer kept than wanted means that the candidates ran out. Each candidate is taken once. Holds all rows,
    some 3 kB each: good for 1,000,000 candidates.
    """
    kept: list[Row] = []
    rejects: list[Row] = []
    used = 0
    while len(kept) < wanted and used < len(candidates):
        some = list(candidates[used : used + (batch or wanted)])
        new, rejected = work(some)
        used += len(some)
        kept.extend(new)
        rejects.extend(rejected)
        log.info("%d of %d candidates: %d accepted, %d rejected", used, len(candidates), len(kept), len(rejects))
    rejects += [reject(step, "surplus", row, f"after {wanted} accepted rows") for row in kept[wanted:]]
    return kept[:wanted], rejects, used
