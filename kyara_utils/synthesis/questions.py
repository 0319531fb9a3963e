"""Step 1 of Kyara's base set: a knowledge-intensive question per sampled document, as a reader might ask it.

Near-duplicates are looked for among the questions of one document: two chunks of an article easily lead a model to
the same question, while equal questions about different articles do not occur.
"""

from collections import defaultdict

from kyara_utils.llm import Client, Response
from kyara_utils.synthesis import checks
from kyara_utils.synthesis.drafts import (
    Row,
    end,
    examples_of,
    new_draft,
    parted,
    passage,
    problem_of,
    retry,
    share_of,
    write,
)


def write_questions(
    client: Client,
    chunks: list[Row],
    seed: int = 0,
    language: str = "zh-Hant",
    cited_share: float = 0.0,
    attempts: int = 2,
) -> tuple[list[Row], list[Row]]:
    """Write one question per chunk, asking again up to `attempts` times where a rule is broken.

    cited_share: seeded share of the drafts whose kind is `rag_cited`, the others are `rag`.
    Returns drafts and rejects of stage `question` (for the last attempt): call_failed, empty, truncated,
    not_a_question, only_stop_words, leaked_prompt, refusal, wrong_script, off_topic, duplicate_question,
    near_duplicate_question.
    """
    drafts = [new_draft(chunk, "rag") for chunk in chunks]
    for draft in share_of(drafts, cited_share, seed):
        draft |= new_draft(draft["chunk"], "rag_cited")
    earlier: dict[str, list[str]] = defaultdict(list)
    for attempt in range(attempts):
        _ask([draft for draft in drafts if not attempt or draft["rule"]], client, attempt, seed, language, earlier)
    return parted(drafts)


def _ask(
    drafts: list[Row], client: Client, attempt: int, seed: int, language: str, earlier: dict[str, list[str]]
) -> None:
    inputs = [{"document": passage(draft["chunk"])} for draft in drafts]
    responses = write(
        client, "question", language, drafts, inputs,
        max_tokens=48, repeat_penalty=1.1, **retry(attempt, seed),
    )  # fmt: skip
    for draft, response in zip(drafts, responses, strict=True):
        draft["question"] = response.text
        end(draft, "question", *_rule(draft, response, language, earlier))
        if not draft["rule"]:
            earlier[draft["chunk"]["doc_id"]].append(response.text)


def _rule(draft: Row, response: Response, language: str, earlier: dict[str, list[str]]) -> tuple[str, str]:
    text, document = response.text, passage(draft["chunk"])
    if rule := problem_of(response):
        return rule, response.error or text
    if not checks.is_question(text, language):
        return "not_a_question", text
    rule, detail = checks.request_rule(text, language, examples_of("question", language), [document])
    if rule:
        return rule, detail
    if detail := checks.off_topic(text, document):
        return "off_topic", f"{detail}: {text}"
    if any(text in asked for asked in earlier.values()):
        return "duplicate_question", text
    other = checks.near_duplicate(text, earlier[draft["chunk"]["doc_id"]])
    return ("near_duplicate_question", other) if other else ("", "")
