"""Exactly N accepted rows from as many candidates as it takes, and no more than allowed."""

from collections.abc import Callable, Sequence
from typing import Any

from kyara_utils.runs import reject

Row = dict[str, Any]
Work = Callable[[list[Any]], tuple[list[Row], list[Row]]]


def until_accepted(
    work: Work, candidates: Sequence[Any], wanted: int, step: str, batch: int = 0
) -> tuple[list[Row], list[Row], int]:
    """Send candidates through `work(list) -> (kept, rejects)`, wave by wave, until `wanted` rows are kept.

    Returns (kept, rejects, candidates used). Rows kept beyond the number become rejects of the rule `surplus`, so the
    books balance. Waves have a fixed size (default: what is wanted) so that a rerun asks the same calls; fewer kept
    than wanted means that the candidates ran out.
    """
    kept, rejects, used = [], [], 0
    while len(kept) < wanted and used < len(candidates):
        some = list(candidates[used : used + (batch or wanted)])
        new, refused = work(some)
        used += len(some)
        kept, rejects = kept + new, rejects + refused
        print(f"{used} of {len(candidates)} candidates: {len(kept)} accepted, {len(rejects)} rejected", flush=True)
    rejects += [reject(step, "surplus", row, f"after {wanted} accepted rows") for row in kept[wanted:]]
    return kept[:wanted], rejects, used
