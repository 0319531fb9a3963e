"""How well an index finds what is known to be in it, so that a user can choose a retriever instead of believing.

Known-item search: each question was written from one document, and only that document counts as found. nDCG@10 is
then 1 / log2(1 + rank) (Järvelin and Kekäläinen 2002, one relevant item), recall@k whether it is among the first k.
"""

from collections.abc import Sequence

import numpy as np

from kyara_utils.knowledge.index.ranking import Index, Mode
from kyara_utils.runs.tables import Row

MODES: tuple[Mode, ...] = ("dense", "bm25", "hybrid")
DEPTH = 10
RECALLS = (1, 5, 10)
RESAMPLES = 2000


def known_item_ranks(index: Index, items: Sequence[Row], modes: Sequence[Mode] = MODES) -> list[Row]:
    """Search every {question, doc_id} in every mode; return rows {question, doc_id, mode, rank, first}.

    `rank` is that of the first chunk of the right document among the first 10 chunks, 0 when there is none;
    `first` is the title of what came first. Each question is embedded once.
    """
    if not items:
        return []
    questions = [item["question"] for item in items]
    vectors = index.embedder.queries(questions)
    rows = []
    for mode in modes:
        for item, hits in zip(items, index.search_many(questions, DEPTH, mode, vectors=vectors), strict=True):
            documents = [hit.doc_id for hit in hits]
            rank = documents.index(item["doc_id"]) + 1 if item["doc_id"] in documents else 0
            first = hits[0].title if hits else ""
            rows.append(
                {"question": item["question"], "doc_id": item["doc_id"], "mode": mode, "rank": rank, "first": first}
            )
    return rows


def metrics(ranks: Sequence[int]) -> dict[str, np.ndarray]:
    """Each metric's value for every rank, [n]: nDCG@10 and recall@1, 5 and 10."""
    found = np.asarray(ranks, dtype=float)
    gain = np.where(found > 0, 1 / np.log2(1 + np.maximum(found, 1)), 0.0)
    return {"ndcg@10": gain} | {f"recall@{k}": ((found > 0) & (found <= k)).astype(float) for k in RECALLS}


def summary(rows: Sequence[Row], seed: int = 0) -> list[Row]:
    """Rows {metric, mode, value, low, high, n}: means over the questions with 95 % bootstrap intervals."""
    modes = list(dict.fromkeys(row["mode"] for row in rows))
    scored = {mode: metrics([row["rank"] for row in rows if row["mode"] == mode]) for mode in modes}
    return [
        {"metric": metric, "mode": mode, **interval(scored[mode][metric], seed), "n": len(scored[mode][metric])}
        for metric in metrics([])
        for mode in modes
    ]


def interval(values: np.ndarray, seed: int = 0) -> dict[str, float]:
    """{value, low, high}: the mean and its percentile bootstrap interval (Efron 1979); the same draws for each mode."""
    drawn = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), [2.5, 97.5])
    return {"value": float(values.mean()), "low": float(low), "high": float(high)}
