"""Scores with and without the items whose text the model may have seen in training.

Step 04 drops training rows that quote a benchmark, but it knows only the sets it was given, and preferences are written
later. Here the question is turned round: which items does the training text hold, and does the score rest on them?
Tokens are those of `curation.decontamination` (Han characters, words and numbers over both scripts), since no harness
finds a leak across Traditional and Simplified Chinese.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from kyara_utils.curation.decontamination import BOILERPLATE_ITEMS, tokens
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row

Gram = tuple[str, ...]
SHORTEST = 8  # tokens; an item of fewer cannot be told from common speech
CLEAN, DIRTY, SHORT = "clean", "seen in training", "too short to tell"


def training_texts(rows: Iterable[Row]) -> Iterator[str]:
    """Texts of conversations (`messages`) and preferences (`prompt`, `chosen`, `rejected`), one a message."""
    for row in rows:
        for field in ("messages", "prompt", "chosen", "rejected"):
            for message in row.get(field) or ():
                yield message["content"] or ""


def seen_in(
    sets: Mapping[str, Mapping[str, str]], training: Iterable[str], n: int = 13
) -> dict[str, dict[str, float | None]]:
    """Return for each item of the sets {name: {item id: text}} the share of its n-grams that the training texts hold.

    An item of `SHORTEST` to `n` − 1 tokens counts as one gram of its own length. n-grams in more than
    `BOILERPLATE_ITEMS` items of a set are its own template and left out (13-gram rule: GPT-3, arXiv 2005.14165,
    appendix C). Shares are in [0, 1]; an item that is shorter, or nothing but template, gets None.
    Training texts are read once and not kept. Raises KyaraError for n below `SHORTEST`.
    """
    if n < SHORTEST:
        raise KyaraError(f"n={n} tokens would match common speech; use {SHORTEST} to 20")
    grams = {name: _without_template(items, n) for name, items in sets.items()}
    wanted = {gram for items in grams.values() for found in items.values() for gram in found}
    seen = _seen(wanted, training)
    return {name: {item: _share(found, seen) for item, found in items.items()} for name, items in grams.items()}


def _without_template(items: Mapping[str, str], n: int) -> dict[str, set[Gram]]:
    grams = {item: _grams(tokens(text), n) for item, text in items.items()}
    counts = Counter(gram for found in grams.values() for gram in found)
    return {item: {gram for gram in found if counts[gram] <= BOILERPLATE_ITEMS} for item, found in grams.items()}


def _grams(words: Sequence[str], n: int) -> set[Gram]:
    if len(words) < SHORTEST:
        return set()
    size = min(n, len(words))
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}


def _seen(wanted: set[Gram], training: Iterable[str]) -> set[Gram]:
    sizes, seen = sorted({len(gram) for gram in wanted}), set()
    for text in training:
        words = tokens(text)
        for size in sizes:
            seen |= wanted.intersection(tuple(words[i : i + size]) for i in range(len(words) - size + 1))
    return seen


def _share(grams: set[Gram], seen: set[Gram]) -> float | None:
    return len(grams & seen) / len(grams) if grams else None


def part_of(share: float | None) -> str:
    """Name an item's part: one shared n-gram is enough to call it seen, as in GPT-3's report."""
    if share is None:
        return SHORT
    return DIRTY if share > 0 else CLEAN


def split_scores(
    rows: Sequence[Row], shares: Mapping[str, float | None], summarise: Callable[[list[Row]], list[Row]]
) -> list[Row]:
    """Score clean and seen items apart: the rows of `summarise` for each part, with a `part`.

    `rows` are scored items with an `id` (of `running` or the benchmarks), `summarise` the function that makes score
    rows of them (`summary.summarise_…`), so that both parts are scored as the whole is. Each part has its own n and
    interval; an item without a share is "too short to tell". The parts' n add up to the whole's.
    """
    parts: dict[str, list[Row]] = {CLEAN: [], DIRTY: [], SHORT: []}
    for row in rows:
        parts[part_of(shares.get(row["id"]))].append(row)
    return [score | {"part": part} for part, members in parts.items() if members for score in summarise(members)]
