"""Does a model say so when the documents do not answer? The card's fixed sentence, over answerable and other questions.

The answerable questions are those of `open_book` among distractors: equal calls, which the ledger answers. The others
are questions on an article that does not say it, and questions of `open_book` whose article is left out.
"""

import random
from collections.abc import Iterator, Sequence

from kyara_utils.evaluation import ratios, summary
from kyara_utils.evaluation.benchmark import Questions, Source
from kyara_utils.evaluation.miniature.items import load_items
from kyara_utils.evaluation.reading.answer_match import contains
from kyara_utils.evaluation.reading.contexts import AMONG, Shelf, shelf
from kyara_utils.evaluation.reading.open_book import NAME, note_of, open_item
from kyara_utils.evaluation.reading.short_reading import Reading, in_order
from kyara_utils.evaluation.registry import register
from kyara_utils.evaluation.scoring import CORRECT, UNSCORED, outcome
from kyara_utils.runs.tables import Row
from kyara_utils.text.citation_form import NO_ANSWER
from kyara_utils.text.folding import fold

LEFT_OUT = 0.25  # share of the answerable questions that are asked again without their article
RULE = "the fixed sentence in a greedy answer"
SENTENCE = fold(NO_ANSWER["zh-Hant"])


def says_so(text: str) -> bool:
    """Whether an answer begins with the fixed sentence, in either script and with any marks."""
    return fold(text).startswith(SENTENCE)


def unanswerable_items(source: Source, answerable: Sequence[Row], name: str, found: Shelf) -> Iterator[Row]:
    """Items that no shown document answers: the absent questions, and some of the answerable without their article."""
    for row in source.draw(load_items(f"{NAME}_absent"), name):
        yield open_item(row, found.among(row["path"]), AMONG, found)
    for row in answerable:
        documents = found.without(row["path"])
        told = any(contains(document["text"], row["answers"]) for document in documents)
        if documents and not told and random.Random(f"{source.seed} {row['id']}").random() < LEFT_OUT:
            yield open_item(row | {"id": f"{row['id']}/left out", "answers": []}, documents, AMONG, found)


def with_unanswerable(source: Source, name: str, answerable: Sequence[Row]) -> list[Row]:
    """Answerable items among distractors, and the unanswerable ones, in the order in which they are asked."""
    absent = load_items(f"{NAME}_absent")
    found = shelf(source, [row["path"] for row in (*answerable, *absent)])
    items = [open_item(row, found.among(row["path"]), AMONG, found) for row in answerable]
    return in_order([*items, *unanswerable_items(source, answerable, name, found)])


class MixedReading(Reading):
    """A reading test over answerable and unanswerable questions, scored model by model by `_scores`."""

    def score_all(self, questions: Questions, answers: Row, judge: object) -> list[Row]:
        """Scored rows that know whether their question is `answerable`."""
        answerable = {item["id"]: bool(item["answers"]) for item in questions.items}
        return [row | {"answerable": answerable[row["id"]]} for row in super().score_all(questions, answers, judge)]

    def summarise(self, rows: list[Row]) -> list[Row]:
        """The scores of each model, as `_scores` gives them."""
        return [row for (model,), mine in summary.by(rows, "model").items() for row in self._scores(model, mine)]

    def _scores(self, model: str, rows: list[Row]) -> Iterator[Row]:
        raise NotImplementedError


@register
class Unanswerable(MixedReading):
    """`outcome` is right when the sentence stands where it should and nowhere else."""

    name = "unanswerable"
    title = "Says that the documents do not answer (F1)"
    metric = "f1"
    decisive = "outcome"
    outcomes = ("outcome",)

    def load(self, source: Source) -> Questions:
        """The bundled questions. Raises KyaraError where step 01 set no document aside."""
        items = with_unanswerable(source, self.name, source.draw(load_items(NAME), NAME))
        return Questions(items, "bundled", note_of(items))

    def score(self, item: Row, text: str) -> Row:
        """Whether the sentence was `said`, and whether it should have been."""
        said = says_so(text)
        return {"outcome": outcome(said != bool(item["answers"])), "said": said}

    def _scores(self, model: str, rows: list[Row]) -> Iterator[Row]:
        """Precision, recall and F1 of saying so, and the share of answerable questions that get an answer."""
        unscored = sum(row["outcome"] == UNSCORED for row in rows)
        for metric, part in (("f1", f1_part), ("precision", precision_part)):
            parts = [part(row) for row in rows if row["outcome"] != UNSCORED]
            n = len(parts) if metric == "f1" else int(sum(bottom for _, bottom in parts))
            yield ratios.ratio_row(self.name, model, metric, parts, n, unscored, RULE)
        for metric, mine in halves(rows).items():
            yield summary.proportion(self.name, model, metric, [row["outcome"] for row in mine], RULE)

    def differences(self, rows: list[Row], pairs: Sequence[tuple[str, str]]) -> list[Row]:
        """Of F1, of recall, and of the share of answerable questions that get an answer."""
        found = [{"metric": "f1"} | row for pair in pairs if (row := _f1_difference(rows, *pair))]
        found += [
            {"metric": metric} | row
            for metric, mine in halves(rows).items()
            for pair in pairs
            if (row := summary.compare_shared(mine, *pair))
        ]
        return [{"benchmark": self.name} | row for row in found]

    def obeyed(self, item: Row, text: str) -> list[bool]:
        """Counted with `open_book`."""
        return []


def halves(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows of the unanswerable questions under `recall`, of the others under `answered`."""
    parts = {"recall": [row for row in rows if not row["answerable"]], "answered": [r for r in rows if r["answerable"]]}
    return {name: part for name, part in parts.items() if part}


def f1_part(row: Row) -> ratios.Part:
    """True positives over the mean of those said and those to be said."""
    hit = row["outcome"] == CORRECT and not row["answerable"]
    return float(hit), (row["said"] + (not row["answerable"])) / 2


def precision_part(row: Row) -> ratios.Part:
    """True positives over those said."""
    return float(row["outcome"] == CORRECT and not row["answerable"]), float(row["said"])


def _f1_difference(rows: list[Row], one: str, two: str) -> Row:
    sides = [{key: f1_part(row) for key, row in summary.scored_by(rows, model).items()} for model in (one, two)]
    return ratios.ratio_difference(*sides, (one, two))
