"""Cited answers in the format of Kyara's card: documents with ids, 【id】 citations, distractors, no-answer cases.

The user's turn lists documents under their ids; the answer cites them, or is the card's fixed sentence where none of
them helps. A chat model writes the citations itself. A small base model would not: it writes the answer from titled
documents and after each sentence a title; where it wrote none, the likeliest title is read from log-probabilities.
Either way every citation must exist in the context and be supported by it.
"""

import random
from collections.abc import Iterable
from typing import Any

from kyara_utils.llm import Client, Request, load_prompt
from kyara_utils.runs.tables import Row
from kyara_utils.synthesis import checks
from kyara_utils.synthesis.citations import citation_rule, cite, likeliest, read_parts, titles_of
from kyara_utils.synthesis.drafts import (
    conversation,
    end,
    examples_shown,
    note,
    parted,
    passage,
    path_of,
    problem_of,
    share_of,
    write,
)
from kyara_utils.synthesis.overlap import overlap
from kyara_utils.synthesis.styles import FULL, Style, style_of
from kyara_utils.text.citation_form import CITATION, NO_ANSWER, normal_form

ANSWERS_ITSELF = 0.6  # a document with this share of the question's terms may answer it: no part of an unanswerable row
TOP = 64


def add_contexts(
    drafts: list[Row], pool: list[Row], distractors: int = 2, unanswerable_share: float = 0.25, seed: int = 0
) -> list[Row]:
    """Add `context` (shuffled documents {id, title, text}) and `answerable` to each draft.

    An answerable draft gets its source, and as `distractors` its relevant hits and at least one chunk of another
    article, drawn by seed from `pool`. A seeded `unanswerable_share` gets irrelevant hits and drawn chunks only.
    A few draws for each draft, whatever the pool's size: good for 100,000 drafts and a pool of a million.
    """
    unanswerable = {draft["id"] for draft in share_of(drafts, unanswerable_share, seed)}
    for draft in drafts:
        picker = random.Random(f"{seed} {draft['id']}")
        draft["answerable"] = draft["id"] not in unanswerable
        drawn = drawn_chunks(picker, pool, draft["chunk"]["doc_id"], 4 * (distractors + 1))
        found = _with_source(draft, drawn, distractors) if draft["answerable"] else _without(draft, drawn, distractors)
        picker.shuffle(found)
        draft["context"] = [{key: item[key] for key in ("id", "title", "text")} for item in found]
    return drafts


def drawn_chunks(picker: random.Random, pool: list[Row], own: str, number: int) -> list[Row]:
    """Draw chunks of other articles by position, so that a pool of millions is never walked for one draft."""
    found: dict[str, Row] = {}
    for _ in range(20 * number):
        chunk = pool[picker.randrange(len(pool))] if pool else {"doc_id": own}
        if chunk["doc_id"] != own:
            found.setdefault(chunk["id"], chunk)
        if len(found) == number:
            break
    return list(found.values())


def _with_source(draft: Row, drawn: list[Row], distractors: int) -> list[Row]:
    relevant = [hit for hit in draft["hits"] if hit["relevant"]][: max(0, distractors - 1)]
    taken = {draft["chunk"]["id"], *(hit["id"] for hit in draft["hits"])}
    others = [chunk for chunk in drawn if chunk["id"] not in taken]
    return [draft["chunk"], *(relevant + others)[:distractors]]


def _without(draft: Row, drawn: list[Row], distractors: int) -> list[Row]:
    """Documents none of which is the source's article, was judged relevant, or speaks of what is asked."""
    wrong = [hit for hit in draft["hits"] if not hit["relevant"] and hit["doc_id"] != draft["chunk"]["doc_id"]]
    hits = {hit["id"] for hit in draft["hits"]}
    found = wrong + [chunk for chunk in drawn if chunk["id"] not in hits]
    question = draft["question"]
    return [item for item in found if overlap(question, passage(item)) < ANSWERS_ITSELF][: distractors + 1]


def answer_cited(
    client: Client, drafts: list[Row], seed: int = 0, language: str = "zh-Hant", attempts: int = 2
) -> tuple[list[Row], list[Row]]:
    """Add `answer` with citations and `cited` (how they came about); return accepted drafts and rejects.

    A chat model sees the card's prompt and writes 【id】; a base model's citations come by titles (see the module).
    A faulty answer is sampled again, up to `attempts` times in all. Rejects of stage `answer`: call_failed, empty,
    truncated; of stage `checks`: the rules of `citation_rule` and `checks.answer_rule`, no_context,
    and source_not_cited: true words about a distractor do not answer the question.
    """
    for draft in drafts:
        if not draft["answerable"]:  # no call: the label is right by construction
            draft |= {"answer": NO_ANSWER[language], "cited": "none, unanswerable by construction"}
            end(draft, "checks", *_unanswerable_rule(draft))
    answerable = [draft for draft in drafts if draft["answerable"]]
    for attempt in range(attempts):
        asked = [draft for draft in answerable if not attempt or draft["rule"]]
        (_by_title if style_of(client).titles else _by_id)(client, asked, attempt, seed, language)
        for draft in asked:
            if not draft["rule"]:
                end(draft, "checks", *_check(client, draft, language))
    return parted(drafts)


def _by_id(client: Client, drafts: list[Row], attempt: int, seed: int, language: str) -> None:
    inputs = [{"documents": draft["context"], "question": draft["question"]} for draft in drafts]
    responses = write(client, "cited", language, drafts, inputs, attempt, seed)
    for draft, response in zip(drafts, responses, strict=True):
        text = normal_form(response.text, [item["id"] for item in draft["context"]])
        draft |= {"answer": text, "cited": "written by the model"}
        end(draft, "answer", problem_of(response), response.text[:80])


def _by_title(client: Client, drafts: list[Row], attempt: int, seed: int, language: str) -> None:
    inputs = [_titled(draft) for draft in drafts]
    responses = write(client, "cited", language, drafts, inputs, attempt, seed)
    parts = []
    for draft, response in zip(drafts, responses, strict=True):
        draft |= {"answer": response.text, "cited": "titles written by the model"}
        end(draft, "answer", problem_of(response), response.text[:80])
        if not draft["rule"]:
            draft["parts"] = read_parts(response.text, titles_of(draft["context"]))
            parts += [(draft, number) for number, (_, title) in enumerate(draft["parts"]) if not title]
    if client.model.dialect == "completion":
        _choose(client, parts, language)
    for draft in drafts:
        if written := draft.pop("parts", []):
            ids = {title: item["id"] for title, item in titles_of(draft["context"]).items()}
            draft["answer"] = "".join(cite(sentence, ids.get(title, "")) for sentence, title in written)


def _titled(draft: Row) -> Row:
    documents = [(title, " ".join(item["text"].split())) for title, item in titles_of(draft["context"]).items()]
    return {"documents": documents, "question": draft["question"]}


def _choose(client: Client, parts: list[tuple[Row, int]], language: str) -> None:
    """Fill in the missing titles: the prompt, the answer up to the sentence, 【, and the likeliest title from there."""
    prompt = load_prompt("synthesis/cited_answer", language)
    requests = []
    for draft, number in parts:
        written = "".join(sentence for sentence, _ in draft["parts"][: number + 1])
        messages = prompt.messages(**_titled(draft))
        messages[-1] = {**messages[-1], "content": f"{messages[-1]['content']}{written}【"}
        requests.append(Request(messages, max_tokens=1, top_logprobs=TOP))
    responses = client.ask(requests, label=f"{prompt.id} 【")
    note([draft for draft, _ in parts], responses, prompt.name)
    for (draft, number), response in zip(parts, responses, strict=True):
        draft["cited"] = "titles chosen by log-probability"
        draft["parts"][number] = (draft["parts"][number][0], likeliest(response, titles_of(draft["context"])))


def _unanswerable_rule(draft: Row) -> tuple[str, str]:
    shown = {item["id"] for item in draft["context"]}
    draft["checks"] = ["source_not_shown"]
    return ("", "") if shown and draft["chunk"]["id"] not in shown else ("no_context", draft["question"])


def _check(client: Client, draft: Row, language: str) -> tuple[str, str]:
    useful = {draft["chunk"]["id"], *(hit["id"] for hit in draft["hits"] if hit["relevant"])}
    examples, style = examples_shown(client, "cited", language), style_of(client)
    rule, detail = cited_rule(
        draft["answer"], draft["question"], draft["chunk"], useful, draft["context"], language, examples, style
    )
    draft["checks"] = [] if rule else ["citations_exist", "citations_supported", "source_cited", *checks.ANSWER_RULES]
    return rule, detail


def cited_rule(
    answer: str, question: str, source: Row, useful: set[str], context: list[Row], language: str,
    examples: Iterable[str] = (), style: Style = FULL,
) -> tuple[str, str]:  # fmt: skip
    """First rule that the cited answer to an answerable question breaks, with the finding; ("", "") when it is sound.

    source: the chunk that answers it; useful: ids of all shown documents that do. Rules: those of `citation_rule`,
    source_not_cited, and those of `checks.answer_rule` on the answer without its citations.
    """
    rule, detail = citation_rule(answer, context)
    if not rule and useful.isdisjoint(CITATION.findall(answer)):
        rule, detail = "source_not_cited", answer[:80]
    if rule:
        return rule, detail
    text, sources = CITATION.sub("", answer), [passage(item) for item in context]
    return checks.answer_rule(text, question, source["text"], sources, language, examples, style)


def cited_conversations(drafts: list[Row], model: str, language: str = "zh-Hant") -> list[Row]:
    """Turn accepted drafts into conversations of source `rag_cited`: the card's prompt as the user's turn."""
    prompt = load_prompt("synthesis/cited", language)
    return [_conversation(draft, prompt, model, language) for draft in drafts]


def _conversation(draft: Row, prompt: Any, model: str, language: str) -> Row:
    user = prompt.messages(documents=draft["context"], question=draft["question"])[-1]["content"]
    meta = path_of(draft, model) | {
        "question": draft["question"], "answerable": draft["answerable"], "citations": draft["cited"],
        "context": [item["id"] for item in draft["context"]], "template": prompt.name,
    }  # fmt: skip
    meta |= {"gold": draft["gold"]} if draft.get("gold") else {}
    parents = [draft["chunk"]["id"], *(item["id"] for item in draft["context"])]
    return conversation(user, draft["answer"], "rag_cited", parents, draft["calls"], meta, language)
