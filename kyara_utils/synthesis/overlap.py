"""How much two texts share: distinct terms, and runs of characters.

Terms are those of our BM25: Han bigrams and whole words of other scripts, folded over script and case, so that one
threshold serves Chinese and English.
"""

from collections.abc import Iterable

from kyara_utils.knowledge.index.lexical import terms

DUPLICATE = 0.5  # Jaccard similarity from which two questions of one document are the same


def by_length(size: int, sizes: tuple[int, int], values: tuple[float, float]) -> float:
    """A limit that falls in a straight line from its value at the smaller size to its value at the larger one."""
    part = min(1.0, max(0.0, (size - sizes[0]) / (sizes[1] - sizes[0])))
    return values[0] + part * (values[1] - values[0])


def overlap(text: str, other: str) -> float:
    """Share of the distinct terms of `text` that occur in `other`, 0 to 1; 0 for a text without terms."""
    own = set(terms(text))
    return len(own & set(terms(other))) / len(own) if own else 0.0


def jaccard(text: str, other: str) -> float:
    """Shared terms over all terms of both texts, 0 to 1."""
    a, b = set(terms(text)), set(terms(other))
    return len(a & b) / len(a | b) if a | b else 0.0


def near_duplicate(question: str, earlier: Iterable[str], limit: float = DUPLICATE) -> str:
    """The earlier question (of the same document or conversation) that this one repeats."""
    return next((other for other in earlier if jaccard(question, other) >= limit), "")


def shared_run(text: str, document: str, length: int) -> str:
    """A run of `length` characters (white space left out) that both texts contain."""
    text, document = "".join(text.split()), "".join(document.split())
    runs = {document[i : i + length] for i in range(len(document) - length + 1)}
    return next((text[i : i + length] for i in range(len(text) - length + 1) if text[i : i + length] in runs), "")


def copied_share(text: str, document: str, length: int) -> float:
    """Share of a text's characters that lie in runs of `length` or more which the document contains."""
    text, document = "".join(text.split()), "".join(document.split())
    runs = {document[i : i + length] for i in range(len(document) - length + 1)}
    covered, last = 0, 0
    for start in range(len(text) - length + 1):
        if text[start : start + length] in runs:
            covered += start + length - max(last, start)
            last = start + length
    return covered / len(text) if text else 0.0
