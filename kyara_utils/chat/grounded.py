"""An answer from the index in the format of Kyara's card: passages found, answer with citations, each one checked.

What a training row of step 02 must pass, an answer here must pass: where a citation does not hold, or the answer says
what no passage says, the card's fixed sentence stands instead, and the refused draft beside it with the reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kyara_utils.chat.speakers import Speaker
from kyara_utils.evaluation.reading.unanswerable import says_so
from kyara_utils.knowledge.index.ranking import Hit, Index
from kyara_utils.llm.streaming import TooLong
from kyara_utils.runs.tables import Row
from kyara_utils.synthesis import checks
from kyara_utils.synthesis.citations import MARGIN, claims_of
from kyara_utils.synthesis.cited import answer_cited
from kyara_utils.synthesis.drafts import new_draft, passage, sentences
from kyara_utils.synthesis.overlap import overlap
from kyara_utils.synthesis.styles import style_of
from kyara_utils.text.citation_form import NO_ANSWER
from kyara_utils.text.normalise import script_of

PASSAGES = 3  # shown to the model
ENOUGH = "enough"
MORE = 4  # times as many are searched where each has to have a title of its own
REASONS = {  # why a draft is refused, for people; a rule that is not here is named as it is
    "no_citation": "it cites nothing",
    "unknown_citation": "it cites a document that was not shown",
    "unsupported_citation": "a cited passage does not say what it is cited for",
    "citation_form": "its citations are not in the form 【id】",
    "truncated": "it does not come to its end",
    "empty": "the model said nothing",
    "unsupported": "its words do not stand in the passages",
    "foreign_number": "it holds a number that no passage holds",
    "copying": "it only copies a passage",
    "echo": "it only repeats the question",
    "leaked_prompt": "it goes on with the prompt's own text",
    "wrong_script": "it is not in the script that was asked for",
    "refusal": "the model declines",
}


@dataclass(frozen=True)
class Claim:
    """A statement of an answer and one document that it cites.

    share: of the statement's terms, those that the passage holds, 0 to 1; sentence: the one of it that holds most;
    verdict: `ENOUGH`, or why the citation does not hold, by the measure of `synthesis.citations.citation_rule`.
    """

    text: str
    id: str
    title: str
    passage: str
    sentence: str
    share: float
    verdict: str

    @property
    def holds(self) -> bool:
        """Whether the passage has enough of the statement's words; that it says the same is for a reader to see."""
        return self.verdict == ENOUGH


@dataclass(frozen=True)
class Grounded:
    """What was asked, the passages found {id, title, text, score}, what the model wrote, and what stands as answer.

    reason: why the draft was refused, "" for one that passed; then `answer` is the draft, else the fixed sentence.
    """

    question: str
    passages: list[Row]
    draft: str
    answer: str
    reason: str
    claims: list[Claim]


def answer_from(index: Index, speaker: Speaker, question: str, k: int = PASSAGES, attempts: int = 2) -> Grounded:
    """Search, let the model answer from the `k` best passages, check; the question stands alone, as the card's do.

    A faulty draft is asked for again, `attempts` times in all, as in step 02. Of passages that together exceed the
    model's context the last ones are left out.
    """
    hits = _searched(index, question, k, style_of(speaker).titles)
    found = [{"id": hit.chunk_id, "doc_id": hit.doc_id, "title": hit.title, "text": hit.text} for hit in hits]
    language = "en" if script_of(question) == "en" else "zh-Hant"
    if not found:
        return Grounded(question, [], "", NO_ANSWER[language], "nothing is found", [])
    draft = _drafted(speaker, question, found, language, attempts)
    text, found = draft["answer"], draft["context"]
    reason = "the model itself says so" if says_so(text) else reason_of(draft["rule"], draft["detail"])
    claims = [] if says_so(text) else checked_claims(text, found)
    return Grounded(question, found, text, NO_ANSWER[language] if reason else text, reason, claims)


def _searched(index: Index, question: str, k: int, titles: bool) -> list[Hit]:
    """The best passages; for a model that cites by titles the best one of each, since it cannot tell two of a title."""
    if not titles:
        return index.search(question, k)
    best: dict[str, Hit] = {}
    for hit in index.search(question, k * MORE):
        best.setdefault(hit.title, hit)
    return list(best.values())[:k]


def _drafted(speaker: Speaker, question: str, found: list[Row], language: str, attempts: int) -> Row:
    draft = new_draft(found[0], "rag_cited") | {"question": question, "answerable": True, "context": found}
    draft["hits"] = [hit | {"relevant": True} for hit in found]
    try:
        answer_cited(speaker, [draft], language=language, attempts=attempts)
    except TooLong:
        if len(found) == 1:
            raise
        return _drafted(speaker, question, found[:-1], language, attempts)
    return draft


def reason_of(rule: str, detail: str) -> str:
    """A refusal in words; "" where there is none."""
    if not rule:
        return ""
    told = f" ({' '.join(detail.split())[:80]})" if detail and rule not in ("no_citation", "empty", "truncated") else ""
    return REASONS.get(rule, rule.replace("_", " ")) + told


def checked_claims(answer: str, passages: Sequence[Row]) -> list[Claim]:
    """Each statement beside each passage that it cites, with how much of it stands there."""
    known = {item["id"]: item for item in passages}
    found = []
    for text, cited in claims_of(answer):
        best = max((overlap(text, passage(item)) for item in passages), default=0.0)
        found += [_claim(text, one, known.get(one), best) for one in cited]
    return found


def _claim(text: str, cited: str, item: Row | None, best: float) -> Claim:
    if item is None:
        return Claim(text, cited, "(not shown)", "", "", 0.0, "no such passage was shown")
    share, whole = overlap(text, passage(item)), " ".join(item["text"].split())
    nearest = max(sentences(whole) or [whole], key=lambda one: overlap(text, one))
    verdict = "too few" if share < checks.support_limit(text) else ENOUGH
    verdict = "another passage has more" if verdict == ENOUGH and share < best - MARGIN else verdict
    return Claim(text, cited, item["title"], whole, nearest, share, verdict)
