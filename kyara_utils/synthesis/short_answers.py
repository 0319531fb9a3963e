"""Questions with short answers that are read from documents: what a retrieval model must do before it can explain.

The teacher writes questions whose answer is a piece of the document, word for word, so the label can be checked
without trusting it. Then it is asked again with the document alone and must come to the same answer (round-trip
consistency: Alberti et al., arXiv 1906.05416). The row shows the source among distractors, or distractors alone, where
the right answer is the card's fixed sentence (SQuAD 2.0's idea: Rajpurkar et al., arXiv 1806.03822).
"""

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import islice, zip_longest

from kyara_utils.llm import Client, Response, load_prompt
from kyara_utils.runs.tables import Row
from kyara_utils.synthesis.cited import drawn_chunks
from kyara_utils.synthesis.drafts import (
    conversation,
    end,
    new_draft,
    parted,
    passage,
    path_of,
    problem_of,
    share_of,
    shown,
    write,
)
from kyara_utils.synthesis.questions import Asked, question_rule
from kyara_utils.synthesis.sampling import spread
from kyara_utils.synthesis.styles import task_of
from kyara_utils.synthesis.written import bare, read_items
from kyara_utils.text.citation_form import NO_ANSWER
from kyara_utils.text.folding import fold, hardly_more

KIND = "rag_short"
LONGEST = {"zh-Hant": 30, "en": 120}  # characters of a short answer
WIDE = 900  # characters of the source's surroundings that half of the rows show
_PAIR = re.compile(r"\s*[｜|→]\s*|\s+答[:：]\s*|\s+(?:answer|A):\s*", re.I)
_WORD = "[A-Za-z0-9]"
_MARKS = "。．.，,；;：:！!？?、 「」『』“”\"'（）()《》"


def write_short_answers(
    client: Client, chunks: list[Row], wanted: int, seed: int = 0, language: str = "zh-Hant"
) -> tuple[list[Row], list[Row]]:
    """Return drafts with `question` and `gold`, and rejects of stage `question`, for `wanted` questions in all.

    Chunks are taken spread over topics and documents, each for as many questions as suit the teacher.
    Rejects: call_failed, empty, truncated, missing_question, the rules of `questions.question_rule`, not_a_span (the
    answer does not stand in the document, or is too long), answer_in_question, and not_answered_again.
    """
    each = task_of(client, "short").texts
    chosen = islice(spread(chunks, seed), -(-wanted // each))
    places = [(chunk, number) for chunk in chosen for number in range(each)][:wanted]
    drafts = [new_draft(chunk, KIND, number) | {"gold": "", "queries": []} for chunk, number in places]
    groups: dict[str, list[Row]] = defaultdict(list)
    for draft in drafts:
        groups[draft["chunk"]["id"]].append(draft)
    inputs = [{"document": shown(client, group[0]["chunk"]), "number": len(group)} for group in groups.values()]
    responses = write(client, "short", language, [group[0] for group in groups.values()], inputs, seed=seed)
    asked = Asked()
    for group, response in zip(groups.values(), responses, strict=True):
        _read_group(client, group, response, language, asked)
    _ask_again(client, [draft for draft in drafts if not draft["rule"]], seed, language)
    return parted(drafts)


def _read_group(client: Client, group: list[Row], response: Response, language: str, asked: Asked) -> None:
    cut = response.truncated and "{" not in response.text  # of JSON that breaks off only whole items are read
    pairs = list(read_pairs(response.text.rpartition("\n")[0] if cut else response.text))
    for draft, (question, gold) in zip_longest(group, pairs[: len(group)], fillvalue=("", "")):
        draft["calls"], draft["prompts"] = list(group[0]["calls"]), list(group[0]["prompts"])
        draft |= {"question": question, "gold": gold}
        if question:
            rule, detail = question_rule(client, draft, language, asked, "short")
            end(draft, "question", *((rule, detail) if rule else _gold_rule(draft, language)))
        else:
            end(draft, "question", problem_of(response) or "missing_question", response.error or response.text[:80])
        if not draft["rule"]:
            asked.add(draft)


def read_pairs(text: str) -> Iterable[tuple[str, str]]:
    """Yield (question, answer) of a JSON answer, or of lines `question｜answer`; what is no pair is left out."""
    for item in read_items(text, "questions"):
        if isinstance(item, dict) and isinstance(item.get("question"), str) and isinstance(item.get("answer"), str):
            yield bare(item["question"]), item["answer"].strip(_MARKS)
        elif isinstance(item, str) and len(pair := _PAIR.split(item, maxsplit=1)) == 2:
            yield bare(pair[0]), pair[1].strip(_MARKS)


def _gold_rule(draft: Row, language: str) -> tuple[str, str]:
    """The answer must be a short piece of the document, with its title, and not be given by its question."""
    found = f"{draft['gold']}: {draft['question']}"
    draft["gold"] = gold = span_of(draft["gold"], passage(draft["chunk"]))
    if not 0 < len(gold) <= LONGEST[language]:
        return "not_a_span", found
    return ("answer_in_question", found) if fold(gold) in fold(draft["question"]) else ("", "")


def span_of(text: str, document: str) -> str:
    """The piece of a document that is this text but for white space (1988年 where it says 1988 年), or "".

    No piece of a word or number in Latin letters or digits: art is none of party, 17 none of 1783.
    """
    piece = r"\s*".join(map(re.escape, "".join(text.split())))
    found = re.search(f"(?<!{_WORD}(?={_WORD})){piece}(?!(?<={_WORD}){_WORD})", document) if piece else None
    return found.group() if found else ""


def _ask_again(client: Client, drafts: list[Row], seed: int, language: str) -> None:
    inputs = [{"documents": [draft["chunk"]], "question": draft["question"]} for draft in drafts]
    for draft, response in zip(drafts, write(client, "short_again", language, drafts, inputs, seed=seed), strict=True):
        again = problem_of(response) or ("" if agree(draft["gold"], response.text) else "not_answered_again")
        end(draft, "question", again, f"{response.text[:60]}, not {draft['gold']}: {draft['question']}")
        draft["checks"] = [] if again else ["span_of_source", "answered_again"]


def agree(gold: str, again: str) -> bool:
    """Whether one answer holds the other, and no more than as much again: 1783年 and 在1783年, not 3 and 13."""
    one, other = sorted((fold(gold), fold(again)), key=len)
    return hardly_more(other, one)


def add_readings(
    drafts: list[Row], pool: list[Row], distractors: int = 2, unanswerable_share: float = 0.25, seed: int = 0,
    language: str = "zh-Hant",
) -> list[Row]:  # fmt: skip
    """Add `context` (shuffled documents {id, title, text}), `answerable` and `answer` to drafts with `hits`.

    An answerable draft shows its source (half of them the text around it as well) and none to `distractors` others;
    the seeded `unanswerable_share` shows one to `distractors` + 1 others. No other document holds the gold answer.
    """
    unanswerable = {draft["id"] for draft in share_of(drafts, unanswerable_share, seed)}
    around = _by_document(pool, {draft["chunk"]["doc_id"] for draft in drafts})
    for draft in drafts:
        picker = random.Random(f"{seed} {draft['id']}")
        draft["answerable"] = draft["id"] not in unanswerable
        own = [_widened(draft["chunk"], around, picker)] if draft["answerable"] else []
        fewest = 0 if own else 1
        found = own + _others(draft, pool, picker)[: picker.randint(fewest, fewest + distractors)]
        picker.shuffle(found)
        draft["context"] = [{key: item[key] for key in ("id", "title", "text")} for item in found]
        draft["answer"] = draft["gold"] if own else NO_ANSWER[language]
    return drafts


def _others(draft: Row, pool: list[Row], picker: random.Random) -> list[Row]:
    """Hits, then drawn chunks, of other documents that do not hold the gold answer."""
    own, gold = draft["chunk"]["doc_id"], fold(draft["gold"])
    found = {item["id"]: item for item in [*draft["hits"], *drawn_chunks(picker, pool, own, 8)]}
    return [item for item in found.values() if item["doc_id"] != own and gold not in fold(passage(item))]


def _by_document(pool: list[Row], wanted: set[str]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for chunk in pool:
        if chunk["doc_id"] in wanted:
            found[chunk["doc_id"]].append(chunk)
    return {doc_id: sorted(chunks, key=lambda chunk: chunk["position"]) for doc_id, chunks in found.items()}


def _widened(chunk: Row, around: dict[str, list[Row]], picker: random.Random) -> Row:
    """The chunk, or with even chance the chunks around it as one text of at most `WIDE` characters."""
    if picker.random() < 0.5:
        return chunk
    siblings = around[chunk["doc_id"]]
    first = last = next(place for place, one in enumerate(siblings) if one["id"] == chunk["id"])
    while first > 0 or last < len(siblings) - 1:
        first, last = max(0, first - 1), min(len(siblings) - 1, last + 1)
        text = "\n".join(one["text"].strip() for one in siblings[first : last + 1])
        if len(text) > WIDE:
            break
        chunk = {**chunk, "text": text}
    return chunk


def short_conversations(drafts: list[Row], model: str, language: str = "zh-Hant") -> list[Row]:
    """Turn drafts with a context into conversations of source `rag_short`; `reading_row` is the user's turn."""
    prompt = load_prompt("synthesis/reading_row", language)
    return [_conversation(draft, prompt.messages, prompt.name, model, language) for draft in drafts]


def _conversation(draft: Row, messages: Callable, template: str, model: str, language: str) -> Row:
    user = messages(documents=draft["context"], question=draft["question"])[-1]["content"]
    meta = path_of(draft, model) | {
        "question": draft["question"], "gold": draft["gold"], "answerable": draft["answerable"],
        "context": [item["id"] for item in draft["context"]], "template": template,
    }  # fmt: skip
    parents = [draft["chunk"]["id"], *(item["id"] for item in draft["context"])]
    return conversation(user, draft["answer"], KIND, parents, draft["calls"], meta, language)
