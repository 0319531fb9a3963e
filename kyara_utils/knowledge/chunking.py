"""Cut documents into passages that fit an embedder and can be cited by id.

Structure comes first: a chunk never crosses a heading, except to take in a fragment too small to stand alone.
Within a section sentences are packed greedily up to a token budget, and a code block stays whole.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

from kyara_utils.knowledge.normalise import script_of
from kyara_utils.knowledge.readers import STEP, Document
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import content_id, reject

MIN_CHARACTERS = 24
SENTENCE_END = re.compile(r"(?:[。！？；…]+[」』”’）》]*|(?<=[.!?])\s|\n)\s*")
CLAUSE_END = re.compile(r"[，、：,;:|]|\s")
HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*$")
WIDE = re.compile(r"[⺀-鿿豈-﫿　-〿＀-￯가-힯]")
FENCE = "```"


@dataclass(frozen=True)
class Chunk:
    """A passage. `heading` is the path of headings above it, `position` its number within the document."""

    id: str
    doc_id: str
    title: str
    heading: str
    text: str
    position: int
    tokens: int
    lang: str

    def passage(self) -> str:
        """What is embedded and indexed: title, headings and text, so that a chunk keeps its subject."""
        return "\n".join(part for part in (self.title, self.heading, self.text) if part)


class Budget:
    """A token budget that asks the tokenizer only where an estimate by characters leaves doubt."""

    def __init__(self, count_tokens: Callable[[str], int], max_tokens: int) -> None:
        self.count, self.max = count_tokens, max_tokens

    def estimate(self, text: str) -> float:
        wide = len(WIDE.findall(text))
        return 0.85 * wide + 0.5 * (len(text) - wide)

    def fits(self, text: str) -> bool:
        guess = self.estimate(text)
        if guess * 2 < self.max or guess > self.max * 2:
            return guess < self.max
        return self.count(text) <= self.max


def chunk_document(
    doc: Document, count_tokens: Callable[[str], int], max_tokens: int = 192, overlap: int = 0
) -> list[Chunk]:
    """Cut one document; every chunk's text has at most `max_tokens` tokens by `count_tokens`.

    `overlap` repeats up to that many tokens (estimated), in whole sentences, from the chunk before in the
    same section. Without it the chunks' texts, joined, are the document less headings and blank space.
    """
    if max_tokens < 16 or not 0 <= overlap < max_tokens:
        raise KyaraError(
            f"max_tokens {max_tokens} and overlap {overlap} do not fit; "
            "choose max_tokens of at least 16 and a smaller overlap"
        )
    budget = Budget(count_tokens, max_tokens)
    pieces = [(heading, text) for heading, units in _sections(doc.text) for text in _pack(units, budget, overlap)]
    lang = script_of(doc.text)
    default = lang if lang.startswith("zh") else "zh-Hant"
    return [
        Chunk(
            content_id(doc.title, text),
            doc.id,
            doc.title,
            heading,
            text,
            at,
            count_tokens(text),
            script_of(text, default),
        )
        for at, (heading, text) in enumerate(_merge_fragments(pieces, budget))
    ]


def chunk_corpus(
    items: Iterable[Document | dict[str, Any]],
    count_tokens: Callable[[str], int],
    max_tokens: int = 192,
    overlap: int = 0,
) -> tuple[list[Chunk], list[dict[str, Any]]]:
    """Cut what `read_corpus` yields; return (chunks, rejects), reject rows of the reader included.

    Rejected are exact duplicates of an earlier chunk's text (rule `duplicate`, detail = id of that chunk)
    and fragments that fit no neighbour, or documents of nothing but headings (rule `too_short`).
    """
    chunks: dict[str, Chunk] = {}
    witness: dict[str, str] = {}
    rejects = []
    for item in items:
        if isinstance(item, dict):
            rejects.append(item)
            continue
        cut = chunk_document(item, count_tokens, max_tokens, overlap)
        if not cut:
            rejects.append(reject(STEP, "too_short", asdict(item), "no text under its headings"))
        for chunk in cut:
            key = content_id(chunk.text, n=32)
            if key in witness:
                rejects.append(reject(STEP, "duplicate", asdict(chunk), witness[key]))
            elif len(chunk.text) < MIN_CHARACTERS:
                rejects.append(reject(STEP, "too_short", asdict(chunk), f"{len(chunk.text)} characters"))
            else:
                chunk = _unique(chunk, chunks)
                chunks[chunk.id], witness[key] = chunk, chunk.id
    return list(chunks.values()), rejects


def _unique(chunk: Chunk, taken: dict[str, Chunk]) -> Chunk:
    """Give another id on a collision: 32 bits collide about once in 100,000 chunks."""
    salt = 0
    while chunk.id in taken:
        salt += 1
        chunk = replace(chunk, id=content_id(chunk.title, chunk.text, str(salt)))
    return chunk


def sentences(text: str) -> list[str]:
    """Cut after sentence ends and line breaks; the parts, joined, are `text`."""
    cuts = {0, len(text), *(match.end() for match in SENTENCE_END.finditer(text))}
    return [text[a:b] for a, b in pairwise(sorted(cuts))]


def _sections(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (heading path, units): sentences and whole code blocks, each with the space that follows it."""
    path: list[tuple[int, str]] = []
    units: list[str] = []
    for block in _blocks(text):
        heading = HEADING.fullmatch(block.strip())
        if heading is None:
            units += [block] if block.startswith(FENCE) else sentences(block)
            continue
        if units:
            yield " > ".join(name for _, name in path), units
        level = len(heading[1])
        path = [(n, name) for n, name in path if n < level] + [(level, heading[2])]
        units = []
    if units:
        yield " > ".join(name for _, name in path), units


def _blocks(text: str) -> Iterator[str]:
    """Yield headings, code blocks with their fences, and runs of other lines."""
    block = ""
    for line in text.split("\n"):
        inside = block.startswith(FENCE)
        fence = line.lstrip().startswith(FENCE)
        if inside and not fence:
            block += line + "\n"
        elif inside:
            yield block + line.lstrip() + "\n\n"
            block = ""
        elif fence or HEADING.fullmatch(line):
            yield from [block] if block.strip() else []
            block = line.lstrip() + "\n" if fence else ""
            yield from [] if fence else [line]
        elif block or line.strip():
            block += line + "\n"
    yield from [block] if block.strip() else []


def _pack(units: list[str], budget: Budget, overlap: int) -> list[str]:
    """Join units greedily; a unit that alone exceeds the budget is halved until it fits."""
    packed, current, queue = [], "", deque(units)
    while queue:
        unit = queue.popleft()
        if budget.fits(current + unit):
            current += unit
        elif current.strip():
            packed.append(current)
            tail = _tail(current, budget, overlap)
            current = tail if budget.fits(tail + unit) else ""
            queue.appendleft(unit)
        else:
            queue.extendleft(reversed(_halve(unit)))
    return _verified(_balance([*packed, current]), budget)


def _balance(packed: list[str]) -> list[str]:
    """Give a last fragment the sentence before it, so that it need not be rejected."""
    if len(packed) > 1 and len(packed[-1].strip()) < MIN_CHARACTERS and FENCE not in packed[-2]:
        *head, last = sentences(packed[-2])
        if head:
            packed[-2:] = ["".join(head), last + packed[-1]]
    return packed


def _verified(packed: list[str], budget: Budget) -> list[str]:
    """Count each text for real and halve those that the estimate let through."""
    texts, queue = [], deque(text for text in packed if text.strip())
    while queue:
        text = queue.popleft()
        if budget.count(text) <= budget.max or len(text) == 1:
            texts.append(text)
        else:
            queue.extendleft(reversed(_halve(text)))
    return texts


def _tail(text: str, budget: Budget, overlap: int) -> str:
    """The last whole sentences of `text` within `overlap` tokens; never a part of a code block."""
    tail = ""
    for sentence in reversed(sentences(text)):
        if FENCE in text or budget.estimate(sentence + tail) > overlap:
            break
        tail = sentence + tail
    return tail


def _halve(unit: str) -> list[str]:
    """Cut near the middle: code at a line and fenced again, prose after a clause, else anywhere."""
    body = unit.strip()
    if body.startswith(FENCE) and body.endswith(FENCE) and body.count("\n") > 2:
        opening, *lines, _ = body.split("\n")
        half = len(lines) // 2
        parts = (lines[:half], lines[half:])
        return ["\n".join([opening, *part, FENCE]) + "\n\n" for part in parts]
    if body.startswith(FENCE) and body.endswith(FENCE) and "\n" in body:
        unit = body.split("\n", 1)[1].removesuffix(FENCE)
    middle = len(unit) // 2
    cuts = [match.end() for match in CLAUSE_END.finditer(unit) if 0 < match.end() < len(unit)]
    cut = min(cuts, key=lambda at: abs(at - middle), default=middle)
    if abs(cut - middle) > len(unit) // 4:
        cut = middle
    return [unit[:cut], unit[cut:]]


def _merge_fragments(pieces: list[tuple[str, str]], budget: Budget) -> list[tuple[str, str]]:
    """Join a piece that is too short to the one before it, or else to the one after, where that fits."""
    merged: list[tuple[str, str]] = []
    for heading, text in pieces:
        text = text.strip()
        if merged and min(len(merged[-1][1]), len(text)) < MIN_CHARACTERS:
            before, last = merged[-1]
            own = heading.split(" > ")[-1]
            joined = f"{last}\n{text}" if heading == before else f"{last}\n\n{own}\n{text}".strip()
            if budget.count(joined) <= budget.max:
                merged[-1] = (before, joined)
                continue
        merged.append((heading, text))
    return merged
