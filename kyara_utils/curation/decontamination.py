"""Keep benchmark items out of the training data.

The usual 13-gram rule (GPT-3, arXiv 2005.14165, appendix C) counts words between spaces; a Chinese sentence
is then one word and nothing is ever found. Here a token is one Han character, one Latin word or one number,
after NFKC and OpenCC t2s, so a leak in the other script or with other punctuation is the same leak.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from kyara_utils.curation.rows import STEP
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.stored_rows import taken
from kyara_utils.runs.tables import Row, reject
from kyara_utils.text.normalise import search_text

_TOKEN = re.compile(r"\d+(?:\.\d+)?|[^\W\d_\u3400-\u4dbf\u4e00-\u9fff]+|[\u3400-\u4dbf\u4e00-\u9fff]")
_SENTENCE_END = re.compile(r"[\n。！？!?：:]+")
SHORTEST_TURN = 4  # tokens; an item of fewer says too little to be recognised
SHORTEST_SENTENCE = 8  # tokens; from here an item that is one sentence of a longer turn counts as well
BOILERPLATE_ITEMS = 5  # an n-gram in more items than this is the benchmark's own template, not a question


def tokens(text: str) -> list[str]:
    """Return Han characters, Latin words and numbers, folded over script, width and case."""
    return _TOKEN.findall(search_text(text))


class BenchmarkNgrams:
    """The n-grams of a set of benchmark texts, and which item each comes from."""

    def __init__(self, texts: Iterable[tuple[str, str]], n: int = 13, boilerplate: int = BOILERPLATE_ITEMS):
        """Index (item id, text) pairs, and the first line of each text, its question, by itself as well.

        What is shorter than `n` tokens must be a whole turn or sentence to be found.
        """
        if n < 2:
            raise KyaraError(f"n={n} tokens would match everything; use 8 to 20")
        self.n = n
        self.whole: dict[tuple[str, ...], str] = {}
        self.grams: dict[tuple[str, ...], str] = {}
        items: Counter[tuple[str, ...]] = Counter()
        for item, text in texts:
            words, asked = tokens(text), tokens(text.strip().partition("\n")[0])
            short = {tuple(piece) for piece in (words, asked) if SHORTEST_TURN <= len(piece) < n}
            grams = {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}
            items.update(short | grams)
            for table, found in ((self.whole, short), (self.grams, grams)):
                for gram in found:
                    table.setdefault(gram, item)
        self.whole, self.grams = (
            {gram: item for gram, item in table.items() if items[gram] <= boilerplate}
            for table in (self.whole, self.grams)
        )
        self.heads = {gram[:2] for gram in self.grams}
        self.openings = {gram[:SHORTEST_TURN] for gram in self.whole}

    def match(self, text: str) -> tuple[str, str] | None:
        """Return (item id, longest matched span in folded text), or None."""
        search = search_text(text)
        words = _TOKEN.findall(search)
        for piece in (words, *self._sentences(search, words)):
            if item := self.whole.get(tuple(piece)):
                return item, _join(piece)
        if not (hits := self._hits(words)):
            return None
        start, end = _longest_run(hits)
        return self.grams[tuple(words[start : start + self.n])], _join(words[start : end + self.n])

    def _hits(self, words: list[str]) -> list[int]:
        """Where an indexed n-gram begins; its first two tokens are looked up before the whole of it."""
        pairs = zip(words, words[1 : max(1, len(words) - self.n + 2)], strict=False)
        near = [at for at, pair in enumerate(pairs) if pair in self.heads]
        return [at for at in near if tuple(words[at : at + self.n]) in self.grams]

    def _sentences(self, search: str, words: list[str]) -> list[list[str]]:
        """The sentences that can be a whole item: none where no item's first tokens follow one another."""
        if self.openings.isdisjoint(zip(*(words[at:] for at in range(SHORTEST_TURN)), strict=False)):
            return []
        pieces = [_TOKEN.findall(piece) for piece in _SENTENCE_END.split(search)]
        return [piece for piece in pieces if SHORTEST_SENTENCE <= len(piece) < self.n]


def _longest_run(hits: list[int]) -> tuple[int, int]:
    """Return (first, last) of the longest run of consecutive integers in a sorted list."""
    best = start = last = hits[0]
    best_end = last
    for hit in hits[1:]:
        start = start if hit == last + 1 else hit
        last = hit
        if last - start > best_end - best:
            best, best_end = start, last
    return best, best_end


def _join(words: list[str]) -> str:
    """Join tokens with spaces between Latin words only, as the text was written."""
    return re.sub(r"(?<![a-z0-9]) | (?![a-z0-9])", "", " ".join(words))


def contaminated(rows: Sequence[Row], ngrams: BenchmarkNgrams) -> tuple[Sequence[Row], list[Row]]:
    """Drop rows with a user or assistant turn that shares an n-gram with an item; rule `contamination`.

    A row at a time against the index of the benchmarks: good for any number of rows.
    """
    kept, rejects = [], []
    for at, row in enumerate(rows):
        spoken = [m["content"] or "" for m in row["messages"] if m["role"] in ("user", "assistant")]
        match = next((hit for text in spoken if (hit := ngrams.match(text))), None)
        if match:
            rejects.append(reject(STEP, "contamination", row, f"item={match[0]} span={match[1]}"))
        else:
            kept.append(at)
    return taken(rows, kept), rejects
