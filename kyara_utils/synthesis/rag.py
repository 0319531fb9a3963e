"""Kyara's loop: question from a document → query expansion → retrieval → relevance per document → digest → answer.

The card's four steps; the number of queries (5), the digest's limit (500 characters) and its temperature (0.05) are
those of Kyara's published notebook (`zake7749/Kyara: example/transformers-chat.ipynb`). Each stage takes drafts (plain
dicts) and returns them richer, with reject rows for those that end here.
"""

import json
import random
from typing import Any

from kyara_utils.llm import Client, complete, load_prompt, log_odds, score
from kyara_utils.runs import content_id
from kyara_utils.synthesis.drafts import Row, conversation, is_question, passage, problem_of, split

QUERIES_SCHEMA = {
    "type": "object",
    "properties": {
        "search_query": {"type": "array", "items": {"type": "string", "maxLength": 24}, "minItems": 5, "maxItems": 5}
    },
    "required": ["search_query"],
}
LABELS = ("能", "否")
DIGEST_LIMIT = 500


def write_questions(client: Client, chunks: list[Row], seed: int = 0) -> tuple[list[Row], list[Row]]:
    """Write one question per chunk. Rejects: call_failed, empty, truncated, not_a_question, duplicate_question."""
    prompt = load_prompt("synthesis/question")
    inputs = [{"document": passage(chunk)} for chunk in chunks]
    responses = complete(client, prompt, inputs, max_tokens=48, temperature=0.3, repeat_penalty=1.1, seed=seed)
    seen: set[str] = set()
    drafts = []
    for chunk, response in zip(chunks, responses, strict=True):
        rule = problem_of(response) or ("" if is_question(response.text) else "not_a_question")
        rule = rule or ("duplicate_question" if response.text in seen else "")
        seen.add(response.text)
        draft_id = content_id(chunk["id"], response.text, prefix="draft_", n=12)
        drafts.append(
            {"id": draft_id, "chunk": chunk, "question": response.text, "calls": [response.call_id], "rule": rule}
        )
    return split(drafts, lambda draft: (draft["rule"], draft["question"]))


def expand_queries(client: Client, drafts: list[Row], seed: int = 0) -> list[Row]:
    """Add `queries`: five search queries, or none where the model's JSON could not be read (the question remains)."""
    inputs = [{"question": draft["question"]} for draft in drafts]
    responses = complete(
        client,
        load_prompt("synthesis/expand"),
        inputs,
        max_tokens=120,
        temperature=0.3,
        schema=QUERIES_SCHEMA,
        seed=seed,
    )
    for draft, response in zip(drafts, responses, strict=True):
        draft["queries"] = read_queries(response.text)
        draft["calls"].append(response.call_id)
    return drafts


def read_queries(text: str) -> list[str]:
    """Distinct non-empty queries of a `{"search_query": [...]}` answer; [] when it is not that."""
    try:
        found = json.loads(text)["search_query"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return []
    strings = [item.strip() for item in found if isinstance(item, str)] if isinstance(found, list) else []
    return list(dict.fromkeys(item for item in strings if item))


def retrieve(index: Any, drafts: list[Row], k: int = 3) -> list[Row]:
    """Add `hits`: the `k` best other chunks over the question and its queries, fused by reciprocal rank (k = 60)."""
    for draft in drafts:
        fused: dict[str, float] = {}
        found = {}
        for query in [draft["question"], *draft["queries"]]:
            for rank, hit in enumerate(index.search(query, k=2 * k + 1)):
                fused[hit.chunk_id] = fused.get(hit.chunk_id, 0.0) + 1 / (60 + rank + 1)
                found[hit.chunk_id] = hit
        fused.pop(draft["chunk"]["id"], None)
        best = sorted(fused, key=lambda chunk_id: (-fused[chunk_id], chunk_id))[:k]
        draft["hits"] = [
            {"id": i, "title": found[i].title, "text": found[i].text, "score": round(fused[i], 5)} for i in best
        ]
    return drafts


def judge_relevance(client: Client, drafts: list[Row], controls: int = 12, seed: int = 0) -> tuple[list[Row], float]:
    """Add to each hit its log-odds of being relevant and the verdict; return the drafts and the threshold.

    The threshold is the third quartile of the same score on `controls` pairs of a question with another draft's
    document, which are irrelevant by construction: a quarter of those would pass.
    """
    prompt = load_prompt("synthesis/relevance")
    pairs = [(draft, hit) for draft in drafts for hit in draft["hits"]]
    inputs = [{"document": passage(hit), "question": draft["question"]} for draft, hit in pairs]
    known = _controls(drafts, controls, seed)
    responses = log_odds(client, prompt, inputs + known, LABELS)
    threshold = _third_quartile([score(response, LABELS) for response in responses[len(inputs) :]])
    for (draft, hit), response in zip(pairs, responses, strict=False):
        value = score(response, LABELS)
        hit["relevance"] = None if value is None else round(value, 4)
        hit["relevant"] = value is not None and value > threshold
        draft["calls"].append(response.call_id)
    return drafts, round(threshold, 4)


def _controls(drafts: list[Row], n: int, seed: int) -> list[Row]:
    picker = random.Random(seed)
    if len({draft["chunk"]["doc_id"] for draft in drafts}) < 2:
        return []
    found = []
    while len(found) < n:
        asked, other = picker.sample(drafts, 2)
        if asked["chunk"]["doc_id"] != other["chunk"]["doc_id"]:
            found.append({"document": passage(other["chunk"]), "question": asked["question"]})
    return found


def _third_quartile(values: list[float | None]) -> float:
    known = sorted(value for value in values if value is not None)
    return known[(3 * len(known)) // 4] if known else 0.0


def digest_documents(client: Client, drafts: list[Row], seed: int = 0) -> list[Row]:
    """Add `digests`: question-focused summaries of the relevant hits, 500 characters each; failed ones are skipped."""
    pairs = [(draft, hit) for draft in drafts for hit in draft["hits"] if hit["relevant"]]
    inputs = [{"document": passage(hit), "question": draft["question"]} for draft, hit in pairs]
    responses = complete(
        client, load_prompt("synthesis/digest"), inputs, max_tokens=90, temperature=0.05, repeat_penalty=1.05, seed=seed
    )
    for draft in drafts:
        draft["digests"] = []
    for (draft, hit), response in zip(pairs, responses, strict=True):
        draft["calls"].append(response.call_id)
        if not problem_of(response):
            draft["digests"].append({"id": hit["id"], "text": response.text[:DIGEST_LIMIT]})
    return drafts


def answer_questions(client: Client, drafts: list[Row], seed: int = 0) -> list[Row]:
    """Add `answer` (a response) from the original document and the digests."""
    inputs = [
        {
            "document": passage(draft["chunk"]),
            "digests": [digest["text"] for digest in draft["digests"]],
            "question": draft["question"],
        }
        for draft in drafts
    ]
    responses = complete(
        client, load_prompt("synthesis/answer"), inputs, max_tokens=140, temperature=0.3, repeat_penalty=1.1, seed=seed
    )
    for draft, response in zip(drafts, responses, strict=True):
        draft["answer"], draft["rule"] = response.text, problem_of(response)
        draft["calls"].append(response.call_id)
    return drafts


def rag_conversations(drafts: list[Row], model: str) -> tuple[list[Row], list[Row]]:
    """Turn drafts into conversations of source `rag`, the whole path in `meta`; unusable answers are rejected."""
    kept, rejects = split(drafts, lambda draft: (draft["rule"], draft["answer"][:80]))
    return [_conversation(draft, model) for draft in kept], rejects


def _conversation(draft: Row, model: str) -> Row:
    chunk = draft["chunk"]
    meta = {
        "model": model,
        "title": chunk["title"],
        "topic": chunk.get("topic", ""),
        "document": chunk["id"],
        "queries": draft["queries"],
        "hits": [{key: hit[key] for key in ("id", "title", "score", "relevance", "relevant")} for hit in draft["hits"]],
        "digests": draft["digests"],
        "prompts": [
            load_prompt(f"synthesis/{n}").name for n in ("question", "expand", "relevance", "digest", "answer")
        ],
    }
    parents = [chunk["id"], *(digest["id"] for digest in draft["digests"])]
    return conversation(draft["question"], draft["answer"], "rag", parents, draft["calls"], meta)
