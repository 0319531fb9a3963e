"""Step 3 of Kyara's base set: query expansion, hybrid top-K, a verdict on each document, digests of the relevant ones.

The number of queries (5), the digest's limit (500 characters) and its temperature (0.05) are those of Kyara's published
notebook (`zake7749/Kyara: example/transformers-chat.ipynb`). Every hit keeps its score and its verdict.
"""

import logging
import random
from typing import Any

from kyara_utils.knowledge.index.ranking import fuse
from kyara_utils.llm import Client, score
from kyara_utils.runs.tables import Row
from kyara_utils.synthesis.checks import leaked_prompt
from kyara_utils.synthesis.drafts import (
    examples_shown,
    excerpt,
    passage,
    problem_of,
    shown,
    stop_if_lost,
    verdicts,
    write,
)
from kyara_utils.synthesis.styles import style_of
from kyara_utils.synthesis.written import read_object, strings
from kyara_utils.text.answer_faults import declined

log = logging.getLogger(__name__)
LABELS = {"zh-Hant": ("能", "否"), "en": ("Yes", "No")}
DIGEST_LIMIT = 500
TOGETHER = 64  # drafts whose queries are searched at once


def expand_queries(client: Client, drafts: list[Row], seed: int = 0, language: str = "zh-Hant") -> list[Row]:
    """Add `queries`: five search queries, or none where the answer names none, which `without_queries` counts.

    Raises `KyaraError` when not one answer of all can be read.
    """
    inputs = [{"question": draft["question"]} for draft in drafts]
    responses = write(client, "expand", language, drafts, inputs, seed=seed)
    for draft, response in zip(drafts, responses, strict=True):
        draft["queries"] = read_queries(response.text)
        if not draft["queries"]:
            log.warning("%s: no queries in: %s", draft["id"], response.error or response.text[:80])
    fix = f"{client.model.name} did not write the JSON that the prompt asks for; see its answers in the ledger"
    stop_if_lost("query expansion", len(drafts), len(drafts) - without_queries(drafts), fix)
    return drafts


def without_queries(drafts: list[Row]) -> int:
    """Drafts whose expansion could not be read: they are searched by their question alone, and counted."""
    return sum(not draft["queries"] for draft in drafts)


def read_queries(text: str) -> list[str]:
    """Distinct non-empty queries of a `{"search_query": [...]}` answer; [] when it is not that."""
    return strings(read_object(text, "search_query"))


def retrieve(index: Any, drafts: list[Row], k: int = 3, characters: int = 0) -> list[Row]:
    """Add `hits`: the `k` best other chunks over the question and its queries, fused by reciprocal rank (k = 60).

    characters: longest excerpt of a hit in whole sentences, as `excerpt` cuts it.
    """
    for start in range(0, len(drafts), TOGETHER):
        group = drafts[start : start + TOGETHER]
        queries = [query for draft in group for query in (draft["question"], *draft["queries"])]
        answers = iter(index.search_many(queries, k=2 * k + 1))
        for draft in group:
            rankings = [next(answers) for _ in range(1 + len(draft["queries"]))]
            draft["hits"] = [_hit(hit, value, characters) for value, hit in _others(rankings, draft["chunk"]["id"])[:k]]
    return drafts


def _others(rankings: list[list[Any]], own: str) -> list[tuple[float, Any]]:
    """(fused score, hit) without the chunk that the question was made from, best first."""
    found = {hit.chunk_id: hit for ranking in rankings for hit in ranking}
    fused = fuse([hit.chunk_id for hit in ranking] for ranking in rankings)
    return [(value, found[chunk_id]) for value, chunk_id in fused if chunk_id != own]


def _hit(hit: Any, value: float, characters: int) -> Row:
    row = {"id": hit.chunk_id, "doc_id": hit.doc_id, "title": hit.title, "text": hit.text, "score": round(value, 5)}
    return excerpt(row, characters)


def judge_relevance(
    client: Client, drafts: list[Row], controls: int = 0, seed: int = 0, language: str = "zh-Hant", gate: bool = True
) -> tuple[list[Row], float]:
    """Add to each hit its log-odds of being relevant and the verdict; return the drafts and the threshold.

    The threshold is the third quartile of the same score on `controls` pairs (0: as many as the style says) of a
    question with another draft's document, which are irrelevant by construction: a quarter of those would pass.
    Without the `gate` nothing is asked and every hit counts as relevant, which is an ablation.
    """
    if not gate:
        for draft in drafts:
            draft["hits"] = [hit | {"relevance": None, "relevant": True} for hit in draft["hits"]]
        return drafts, 0.0
    pairs = [(draft, hit) for draft in drafts for hit in draft["hits"]]
    inputs = [{"document": shown(client, hit), "question": draft["question"]} for draft, hit in pairs]
    labels, asking = LABELS[language], [draft for draft, _ in pairs]
    known = _controls(client, drafts, controls or style_of(client).controls, seed)
    found, irrelevant = verdicts(client, "relevance", language, asking, inputs, labels, known)
    threshold = _third_quartile([score(response, labels) for response in irrelevant])
    threshold = max(threshold, 0.0) if style_of(client).trusted else threshold
    read = 0
    for (_, hit), response in zip(pairs, found, strict=True):
        value, said = score(response, labels), label_said(response, labels)
        hit["relevance"] = None if value is None else round(value, 4)
        hit["relevant"] = said == labels[0] if value is None else value > threshold
        read += value is not None or bool(said)
    fix = (
        f"{client.model.name} gives neither log-probability nor word of {labels[0]} or {labels[1]}; name another model"
    )
    stop_if_lost("relevance", len(pairs), read, fix)
    return drafts, round(threshold, 4)


def label_said(response: Any, labels: tuple[str, str]) -> str:
    """The label that the text begins with, for endpoints that give no log-probabilities; "" for neither."""
    text = response.text.strip().lstrip("「『*\"'【").lower()
    return next((label for label in labels if text.startswith(label.lower())), "")


def _controls(client: Client, drafts: list[Row], n: int, seed: int) -> list[Row]:
    picker = random.Random(seed)
    if len({draft["chunk"]["doc_id"] for draft in drafts}) < 2:
        return []
    found = []
    while len(found) < n:
        asked, other = picker.sample(drafts, 2)
        if asked["chunk"]["doc_id"] != other["chunk"]["doc_id"]:
            found.append({"document": shown(client, other["chunk"]), "question": asked["question"]})
    return found


def _third_quartile(values: list[float | None]) -> float:
    known = sorted(value for value in values if value is not None)
    return known[(3 * len(known)) // 4] if known else 0.0


def digest_documents(client: Client, drafts: list[Row], seed: int = 0, language: str = "zh-Hant") -> list[Row]:
    """Add `digests`: question-focused summaries of the relevant hits, at most 500 characters each.

    A failed digest, or one that leaks the prompt, is left out; it counts as a document that said nothing.
    """
    pairs = [(draft, hit) for draft in drafts for hit in draft["hits"] if hit["relevant"]]
    inputs = [{"document": shown(client, hit), "question": draft["question"]} for draft, hit in pairs]
    responses = write(client, "digest", language, [draft for draft, _ in pairs], inputs, seed=seed)
    examples = examples_shown(client, "digest", language)
    for draft in drafts:
        draft["digests"] = []
    for (draft, hit), response in zip(pairs, responses, strict=True):
        if not problem_of(response) and not _bad_digest(response.text, examples, passage(hit), language):
            draft["digests"].append(
                {"id": hit["id"], "text": excerpt({"text": response.text}, DIGEST_LIMIT)["text"][:DIGEST_LIMIT]}
            )
    return drafts


def _bad_digest(text: str, examples: list[str], source: str, language: str) -> str:
    return leaked_prompt(text, examples, [source]) or declined(text, language)
