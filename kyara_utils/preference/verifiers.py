"""Exact checks of an answer to a question whose right answer is known: right, wrong, or open where no check can tell.

Four kinds of rows of our own synthesis: `short` (the answer is a piece of the document), `cited` (citations of the
documents shown), `maths` (the value of the answer, compared as exact fractions) and `form` (all others: the script, and
an end). Whoever is right must also be in form, so that no verified answer teaches Simplified characters or to run on;
what is neither surely right nor surely wrong makes no pair. Verifiable rewards in place of a judge: Lambert et al. 2024
(Tülu 3, arXiv 2411.15124, §6).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from kyara_utils.runs import answer, meta, question
from kyara_utils.runs.tables import Row
from kyara_utils.synthesis.cited import cited_rule
from kyara_utils.synthesis.maths.answers import final_answer
from kyara_utils.synthesis.maths.rules import REFUTED, VERIFIED, check_solution
from kyara_utils.text.answer_faults import declined
from kyara_utils.text.answer_rules import Answer, first_broken
from kyara_utils.text.citation_form import NO_ANSWER
from kyara_utils.text.folding import OPERATORS, character_f1, fold, hardly_more, holds, numbers
from kyara_utils.text.script_leaks import mainland_term

RIGHT, WRONG, OPEN = "right", "wrong", "open"
FORM = ("empty", "leaked_prompt", "wrong_script", "garbage", "repetition")  # of `text.answer_rules`
UNCITED = ("citation_form", "no_citation", "unknown_citation", "source_not_cited")  # rules that need no threshold
ALIKE = 0.5  # F1 of the characters from which another short answer may be the right one in other words


@dataclass(frozen=True)
class Found:
    """What a check says of one answer, with the rule that it passed or broke."""

    outcome: str
    rule: str


def kind_of(row: Row) -> str:
    """Return the check for a conversation row, or "" where none applies: several rounds, a solution not recomputed."""
    if [message["role"] for message in row["messages"]] != ["user", "assistant"]:
        return ""
    kind = {"rag_short": "short", "rag_cited": "cited", "math": "maths"}.get(row["source"], "form")
    if kind == "maths" and meta(row).get("check") != VERIFIED:
        return ""
    return kind if kind != "form" or row["lang"] == "zh-Hant" else ""


def verify(row: Row, text: str, cut: bool, chunks: Mapping[str, Row]) -> Found:
    """Check an answer to the question of a row; `cut`: the token limit ended it; `chunks` by id, for citations."""
    fault = "cut" if cut else first_broken(Answer(text, question(row), row["lang"]), names=FORM)[0]
    found = CHECKS[kind_of(row)](row, text, fault, chunks)
    return Found(OPEN, fault) if fault and found.outcome == RIGHT else found


def short(row: Row, text: str, fault: str, chunks: Mapping[str, Row]) -> Found:
    """The gold answer and little more is right; wrong are other numbers, or hardly a character in common."""
    known = meta(row)
    if not known["answerable"]:
        return _unanswerable(row, text)
    gold, said = fold(known["gold"]), fold(text)
    if holds(said, gold):
        return Found(RIGHT, "gold_answer") if hardly_more(said, gold) else Found(OPEN, "gold_among_others")
    if holds(gold, said):
        return Found(OPEN, "part_of_gold")
    right, stated = _stated(known["gold"]), _stated(text)
    alike = right <= stated or stated <= right if right and stated else character_f1(gold, said) >= ALIKE
    return Found(OPEN, "like_gold") if alike else Found(WRONG, "another_answer")


def _stated(text: str) -> set[str]:
    """The numbers of a text without its signs: 1895-1945 and 1895至1945, 50% and 百分之五十 may be one answer."""
    return set(numbers(text)) - set(OPERATORS)


def _unanswerable(row: Row, text: str) -> Found:
    """The fixed sentence alone is right; a refusal in other words is left open."""
    if fold(text) == fold(NO_ANSWER[row["lang"]]):
        return Found(RIGHT, "fixed_sentence")
    return Found(OPEN, "other_refusal") if declined(text, row["lang"]) else Found(WRONG, "answered_without_source")


def cited(row: Row, text: str, fault: str, chunks: Mapping[str, Row]) -> Found:
    """The rules of `cited_rule`; wrong by those that no threshold decides, and by the fixed sentence."""
    known = meta(row)
    if not known["answerable"]:
        return _unanswerable(row, text)
    if fold(text) == fold(NO_ANSWER[row["lang"]]):
        return Found(WRONG, "refused_with_source")
    if missing := {known["document"], *known["context"]} - chunks.keys():
        return Found(OPEN, f"no document {sorted(missing)[0]}")
    context = [chunks[one] for one in known["context"]]
    useful = {known["document"], *(hit["id"] for hit in known.get("hits", ()) if hit["relevant"])}
    rule, _ = cited_rule(text, known["question"], chunks[known["document"]], useful, context, row["lang"])
    return Found(WRONG if rule in UNCITED else OPEN, rule) if rule else Found(RIGHT, "source_cited")


def maths(row: Row, text: str, fault: str, chunks: Mapping[str, Row]) -> Found:
    """The value of the stated answer; a right one by sums that are wrong stays open, and so does none at all."""
    said, known = final_answer(text), final_answer(answer(row))
    if said is None or known is None:
        return Found(OPEN, "no_answer")
    if not said.same(known):
        return Found(WRONG, "another_value")
    check = check_solution(question(row), text)
    return Found(OPEN, check.rule) if check.verdict == REFUTED else Found(RIGHT, "same_value")


def form(row: Row, text: str, fault: str, chunks: Mapping[str, Row]) -> Found:
    """A fault of form is wrong; right is an answer without one that ends as a sentence does and in Taiwan's words."""
    if fault:
        return Found(WRONG, fault)
    unsure = first_broken(Answer(text, question(row), row["lang"]), names=("truncated", "refusal"))[0]
    unsure = unsure or mainland_term(text, row["lang"], [question(row)])
    return Found(OPEN, unsure) if unsure else Found(RIGHT, "in_form")


CHECKS: dict[str, Callable[[Row, str, str, Mapping[str, Row]], Found]] = {
    "short": short, "cited": cited, "maths": maths, "form": form,
}  # fmt: skip


def shown_documents(rows: Iterable[Row], chunks: Iterable[Row]) -> dict[str, Row]:
    """Return the chunks by id that cited rows show or come from; of a table of any size only these are held."""
    known = [meta(row) for row in rows if kind_of(row) == "cited"]
    wanted = {one for item in known for one in (item["document"], *item["context"])}
    return {chunk["id"]: chunk for chunk in chunks if chunk["id"] in wanted}
