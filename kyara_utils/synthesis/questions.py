"""Step 1 of Kyara's base set: knowledge-intensive questions from sampled documents, as readers might ask them.

A base model writes one question per document; a model that follows instructions writes several in one call, of
different kinds (fact, reason, comparison, procedure, scenario). Near-duplicates are looked for among the questions of
one document: two chunks of an article easily lead a model to the same question, while equal questions about different
articles do not occur.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from kyara_utils.llm import Client, Response
from kyara_utils.runs.tables import Row
from kyara_utils.synthesis import checks
from kyara_utils.synthesis.drafts import (
    end,
    examples_shown,
    new_draft,
    parted,
    passage,
    problem_of,
    share_of,
    shown,
    stop_if_lost,
    write,
)
from kyara_utils.synthesis.overlap import near_duplicate
from kyara_utils.synthesis.question_rules import off_topic, question_problem
from kyara_utils.synthesis.styles import style_of, task_of
from kyara_utils.synthesis.written import bare, read_items

KINDS = ("fact", "reason", "comparison", "procedure", "scenario")
ENOUGH = 10  # from so many questions on, none left means that something is wrong with the set-up


@dataclass
class Asked:
    """Questions taken so far: all of them by their exact text, and those of each document."""

    texts: set[str] = field(default_factory=set)
    by_document: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, draft: Row) -> None:
        """Take a draft's question."""
        self.texts.add(draft["question"])
        self.by_document[draft["chunk"]["doc_id"]].append(draft["question"])

    def rule(self, text: str, document: str) -> tuple[str, str]:
        """duplicate_question, near_duplicate_question or nothing, with the finding."""
        if text in self.texts:
            return "duplicate_question", text
        other = near_duplicate(text, self.by_document[document])
        return ("near_duplicate_question", other) if other else ("", "")


def write_questions(
    client: Client,
    chunks: list[Row],
    seed: int = 0,
    language: str = "zh-Hant",
    cited_share: float = 0.0,
    attempts: int = 2,
    wanted: int = 0,
) -> tuple[list[Row], list[Row]]:
    """Write the questions that the teacher's style asks of each chunk, again up to `attempts` times where one fails.

    cited_share: seeded share of the drafts whose kind is `rag_cited`, the others are `rag`; wanted: most questions in
    all, 0 for as many as the chunks give. Holds all drafts: good for some 100,000 chunks at once.
    Returns drafts and rejects of stage `question` (for the last attempt): call_failed, empty, truncated,
    missing_question (fewer came than were asked for), and the rules of `question_rules`, then off_topic,
    duplicate_question and near_duplicate_question. Raises `KyaraError` when not one of ten or more is usable.
    """
    drafts = begin(client, chunks, cited_share, seed, wanted)
    asked = Asked()
    for attempt in range(attempts):
        _ask([draft for draft in drafts if not attempt or draft["rule"]], client, attempt, seed, language, asked)
    kept, rejects = parted(drafts)
    if len(drafts) >= ENOUGH:
        last = drafts[-1]
        stop_if_lost("questions", len(drafts), len(kept), f"the last by the rule {last['rule']}: {last['detail'][:80]}")
    return kept, rejects


def questions_per_chunk(client: Client) -> int:
    """How many questions the teacher's style asks of a chunk in one call."""
    return task_of(client, "question").texts


def begin(client: Client, chunks: list[Row], cited_share: float, seed: int, wanted: int = 0) -> list[Row]:
    """Return the drafts that the chunks give, before any call; kinds are drawn by seed."""
    each = questions_per_chunk(client)
    places = [(chunk, number) for chunk in chunks for number in range(each)][: wanted or None]
    drafts = [new_draft(chunk, "rag", number) | {"number": number} for chunk, number in places]
    for draft in share_of(drafts, cited_share, seed):
        draft |= new_draft(draft["chunk"], "rag_cited", draft["number"])
    return drafts


def _ask(drafts: list[Row], client: Client, attempt: int, seed: int, language: str, asked: Asked) -> None:
    """One call per chunk for all of its drafts that lack a question."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for draft in drafts:
        groups[draft["chunk"]["id"]].append(draft)
    inputs = [{"document": shown(client, group[0]["chunk"]), "number": len(group)} for group in groups.values()]
    responses = write(client, "question", language, [group[0] for group in groups.values()], inputs, attempt, seed)
    for group, response in zip(groups.values(), responses, strict=True):
        for draft in group[1:]:
            draft["calls"], draft["prompts"] = list(group[0]["calls"]), list(group[0]["prompts"])
        for draft, (kind, text) in zip(group, _texts(client, response, len(group)), strict=True):
            draft |= {"question": text, "question_kind": kind}
            end(draft, "question", *_rule(client, draft, response, language, asked))
            if not draft["rule"]:
                asked.add(draft)


def _texts(client: Client, response: Response, number: int) -> list[tuple[str, str]]:
    """(kind, question) as often as was asked for; what did not come is empty."""
    if questions_per_chunk(client) == 1:
        return [("", response.text)]
    found = list(_read(response.text))
    found = (found[:-1] if response.truncated else found)[:number]
    return found + [("", "")] * (number - len(found))


def _read(text: str) -> Iterable[tuple[str, str]]:
    """Questions of a JSON answer with their kinds, or of lines without; what stands behind ｜ is the answer.

    A small model asks better when it must name the answer; it is not used.
    """
    for item in read_items(text, "questions"):
        if isinstance(item, dict) and isinstance(item.get("question"), str):
            yield item["kind"] if item.get("kind") in KINDS else "", bare(item["question"])
        elif isinstance(item, str):
            yield "", bare(item.split("｜")[0])


def _rule(client: Client, draft: Row, response: Response, language: str, asked: Asked) -> tuple[str, str]:
    if not draft["question"] or style_of(client).one_line:
        if rule := problem_of(response) or ("" if draft["question"] else "missing_question"):
            return rule, response.error or response.text[:80]
    return question_rule(client, draft, language, asked)


def question_rule(client: Client, draft: Row, language: str, asked: Asked, task: str = "question") -> tuple[str, str]:
    """First rule that a draft's question breaks: `question_rules`, off_topic, or a duplicate of one in `asked`.

    task: the prompt whose worked examples must not turn up in it.
    """
    text, document = draft["question"], passage(draft["chunk"])
    rule, detail = question_problem(text, language, style_of(client))
    if not rule:
        rule, detail = checks.request_rule(
            text, language, examples_shown(client, task, language), [document], style_of(client)
        )
    if rule:
        return rule, detail
    if detail := off_topic(text, document, style_of(client)):
        return "off_topic", f"{detail}: {text}"
    return asked.rule(text, draft["chunk"]["doc_id"])
