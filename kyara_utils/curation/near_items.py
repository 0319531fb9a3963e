"""Benchmark items that rows come near, for a person to look at: edits and paraphrases that share no long span.

The nearest item of each row by the embeddings of both questions. No row is removed for it: a small embedder also finds
questions near that only share a subject. The share of common character 3-grams tells an edited item (high) from a
paraphrase or a neighbour (low), so a row that shares few must lie at half the distance.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kyara_utils.curation.rows import asked
from kyara_utils.runs.tables import Row
from kyara_utils.text.folding import fold
from kyara_utils.text.ngrams import ngrams

if TYPE_CHECKING:
    import numpy as np

BLOCK = 4096  # rows compared at once
EDITED = 0.4  # share of common 3-grams of an edited item; with one character in ten edited it is 0.5 or more
SHOWN = 200  # characters of a question in the table


def item_question(text: str) -> str:
    """The question of a benchmark's text: its first line, without options and reference."""
    return text.strip().partition("\n")[0]


def near_items(
    rows: Sequence[Row], vectors: "np.ndarray", items: Mapping[str, str], item_vectors: "np.ndarray", cosine: float
) -> list[Row]:
    """Return {id, item, cosine, overlap, asked, question} of rows near an item, the nearest first; one line a row.

    cosine: from which a row is listed that looks like an edit of the item; a paraphrase must lie at half the distance.
    vectors: float32 [rows, d] of `asked(row)`; items: {item id: text}; item_vectors: float32 [items, d] of
    `item_question`; all of length 1. Time is rows × items: a million rows and 3,000 items are 2 TFLOP.
    """
    import numpy as np

    names, found = list(items), []
    for start in range(0, len(rows) if names else 0, BLOCK):
        products = vectors[start : start + BLOCK] @ item_vectors.T
        nearest = products.argmax(axis=1)
        values = products[np.arange(len(nearest)), nearest]
        for at in np.flatnonzero(values >= cosine):
            name = names[nearest[at]]
            line = _line(rows[start + at], name, items[name], float(values[at]))
            found += [line] if line["overlap"] >= EDITED or values[at] >= (1 + cosine) / 2 else []
    return sorted(found, key=lambda line: (-line["cosine"], line["id"]))


def _line(row: Row, item: str, text: str, cosine: float) -> Row:
    theirs, ours = item_question(text), asked(row)
    shown = {"asked": " ".join(ours.split())[:SHOWN], "question": theirs[:SHOWN]}
    return {"id": row["id"], "item": item, "cosine": round(cosine, 4), "overlap": shared_grams(ours, theirs)} | shown


def shared_grams(left: str, right: str) -> float:
    """Common character 3-grams as a share of those of the text that has fewer, both folded over script and marks."""
    ours, theirs = (ngrams(fold(text), 3) for text in (left, right))
    return round(len(ours & theirs) / max(1, min(len(ours), len(theirs))), 3)
