"""Answers with citations in the format of Kyara's card, scored against the one document that is known to answer."""

from collections.abc import Iterator, Sequence

from kyara_utils.evaluation import ratios, summary
from kyara_utils.evaluation.benchmark import Questions, Source
from kyara_utils.evaluation.miniature.items import load_items
from kyara_utils.evaluation.reading.answer_match import contains
from kyara_utils.evaluation.reading.open_book import NAME, note_of
from kyara_utils.evaluation.reading.unanswerable import MixedReading, says_so, with_unanswerable
from kyara_utils.evaluation.registry import register
from kyara_utils.evaluation.scoring import UNSCORED, outcome
from kyara_utils.runs import content_id
from kyara_utils.runs.tables import Row
from kyara_utils.text.citation_form import CITATION, form_rule, normal_form

RULE = "greedy answer in the card's format"
SHARES = {  # metric → field of a scored row, over answerable questions
    "correct": "outcome", "answer": "contained", "citation recall": "source_cited", "normal form": "normal",
}  # fmt: skip


@register
class Cited(MixedReading):
    """Questions of `open_book` among distractors, and some that nothing shown answers.

    An answer is `correct` when it contains a gold answer and cites the document that it stands in. Citations are read
    in all the forms that `normal_form` knows; `normal form` says how many answers need no such reading.
    """

    name = "cited"
    title = "Cited answers on unseen articles (answer and source right)"
    metric = "correct"
    decisive = "outcome"
    outcomes = ("outcome", "contained", "source_cited", "normal")
    longest = 160
    turn, shots = "synthesis/cited", "evaluation/cited_shots"

    def load(self, source: Source) -> Questions:
        """The bundled questions. Raises KyaraError where step 01 set no document aside."""
        items = with_unanswerable(source, self.name, source.draw(load_items(NAME), self.name))
        return Questions([_with_ids(item) for item in items], "bundled", note_of(items))

    def score(self, item: Row, text: str) -> Row:
        """Outcomes of `SHARES`, whether the fixed sentence was `said`, citations in all and those of the source."""
        ids = [document["id"] for document in item["documents"]]
        read = normal_form(text, ids)
        cited = [found.strip() for found in CITATION.findall(read)]
        contained, said = contains(CITATION.sub("", read), item["answers"]), says_so(text)  # an id holds figures
        sourced = item["source"] in cited
        right = contained and sourced if item["answers"] else said
        return {
            "outcome": outcome(right), "contained": outcome(contained), "source_cited": outcome(sourced), "said": said,
            "normal": outcome(_normal(text, ids)), "citations": len(cited), "of_source": cited.count(item["source"]),
        }  # fmt: skip

    def _scores(self, model: str, rows: list[Row]) -> Iterator[Row]:
        """`SHARES`, the citations' precision, and the fixed sentence where nothing answers."""
        for metric, (field, mine) in _parts(rows).items():
            yield summary.proportion(self.name, model, metric, [row[field] for row in mine], RULE)
        unscored = sum(row["outcome"] == UNSCORED for row in rows)
        parts = [_precision(row) for row in rows if row["outcome"] != UNSCORED]
        made = int(sum(bottom for _, bottom in parts))
        yield ratios.ratio_row(self.name, model, "citation precision", parts, made, unscored, RULE)

    def differences(self, rows: list[Row], pairs: Sequence[tuple[str, str]]) -> list[Row]:
        """Of each metric."""
        found = [
            {"metric": metric} | row
            for metric, (field, mine) in _parts(rows).items()
            for pair in pairs
            if (row := summary.compare_shared(mine, *pair, field))
        ]
        for pair in pairs:
            sides = [{key: _precision(row) for key, row in summary.scored_by(rows, one).items()} for one in pair]
            if row := ratios.ratio_difference(*sides, pair):
                found.append({"metric": "citation precision"} | row)
        return [{"benchmark": self.name} | row for row in found]

    def obeyed(self, item: Row, text: str) -> list[bool]:
        """Citations in the one form, or the fixed sentence."""
        return [_normal(text, [document["id"] for document in item["documents"]]) or says_so(text)]


def _with_ids(item: Row) -> Row:
    """Documents under ids as chunks have them, and the id of the question's own."""
    documents = [document | {"id": content_id(document["path"])} for document in item["documents"]]
    return item | {"documents": documents, "source": content_id(item["path"])}


def _normal(text: str, ids: Sequence[str]) -> bool:
    cited = [found.strip() for found in CITATION.findall(text)]
    return bool(cited) and set(cited) <= set(ids) and not form_rule(text, ids)[0]


def _parts(rows: list[Row]) -> dict[str, tuple[str, list[Row]]]:
    """Metric → (field, rows); the fixed sentence is asked of the unanswerable questions alone."""
    answerable = [row for row in rows if row["answerable"]]
    absent = [row for row in rows if not row["answerable"]]
    found = {metric: (field, answerable) for metric, field in SHARES.items()} | {"no answer": ("outcome", absent)}
    return {metric: part for metric, part in found.items() if part[1]}


def _precision(row: Row) -> ratios.Part:
    """Citations of the source over citations; one to a question that nothing answers is wrong."""
    return float(row["of_source"] if row["answerable"] else 0), float(row["citations"])
