"""BM25 as sparse vectors over character bigrams, with the IDF left to the index.

Word tokenizers give one or two tokens for a whole Chinese sentence, and a dictionary segmenter cuts question
and document differently. Overlapping bigrams (as Lucene's CJKAnalyzer) need no dictionary and meet whenever
two neighbouring characters do. Robertson and Zaragoza, "The Probabilistic Relevance Framework" (2009).
"""

import re
from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b

from kyara_utils.knowledge.normalise import search_text

K1, B = 1.2, 0.75
TERM = re.compile(r"[㐀-䶿一-鿿豈-﫿]+|[^\W_㐀-䶿一-鿿豈-﫿]+")


def terms(text: str) -> list[str]:
    """Bigrams of each run of Han characters (a lone one by itself) and whole words of other scripts."""
    found = []
    for run in TERM.findall(search_text(text)):
        han = len(run) > 1 and "㐀" <= run[0] <= "﫿"
        found += [run[i : i + 2] for i in range(len(run) - 1)] if han else [run]
    return found


def average_length(texts: Iterable[str]) -> float:
    """Mean number of terms, at least 1."""
    lengths = [len(terms(text)) for text in texts]
    return max(1.0, sum(lengths) / max(1, len(lengths)))


def document_vector(text: str, average: float) -> tuple[list[int], list[float]]:
    """Return (indices, values): BM25 weights without IDF, saturated by K1 and normalised by length with B."""
    counts = Counter(_index(term) for term in terms(text))
    norm = K1 * (1 - B + B * counts.total() / average)
    pairs = sorted((index, n * (K1 + 1) / (n + norm)) for index, n in counts.items())
    return [index for index, _ in pairs], [value for _, value in pairs]


def query_vector(text: str) -> tuple[list[int], list[float]]:
    """Return (indices, values) of a question: each distinct term weighs one."""
    indices = sorted({_index(term) for term in terms(text)})
    return indices, [1.0] * len(indices)


def _index(term: str) -> int:
    """A stable 32-bit place for a term; Python's own hash changes from run to run."""
    return int.from_bytes(blake2b(term.encode(), digest_size=4).digest(), "big")
