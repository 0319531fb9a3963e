"""Open-book questions on articles that no model has seen: short gold answers, written by hand for this repository."""

from kyara_utils.evaluation.benchmark import Questions, Source
from kyara_utils.evaluation.miniature.items import load_items
from kyara_utils.evaluation.reading.contexts import ALONE, AMONG, Shelf, around, shelf
from kyara_utils.evaluation.reading.short_reading import Reading, in_order
from kyara_utils.evaluation.registry import register
from kyara_utils.runs.tables import Row

NAME = "open_book"


def open_item(row: Row, documents: list[Row], variant: str, found: Shelf) -> Row:
    """An item of a question {id, path, question, answers[]}: what it is asked with, what is known of its article.

    A question that no document answers has no answers.
    """
    own, answers = found.documents[row["path"]], row.get("answers", [])
    known = {"documents": documents, "answers": answers, "evidence": around(own["text"], answers)}
    kept = {"path": row["path"], "question": row["question"], "unseen": row["path"] in found.unseen}
    return {"id": f"{row['id']}/{variant}", "variant": variant} | kept | known


def note_of(items: list[Row]) -> str:
    """How many items are on articles that went into training."""
    seen = sum(not item["unseen"] for item in items)
    return f"{seen} of them on articles that step 01 did not set aside" if seen else ""


@register
class OpenBook(Reading):
    """Each question twice: with its article alone, and with its article among others."""

    name = NAME
    title = "Open-book questions on unseen articles (character F1)"
    licence = "CC BY 4.0"

    def load(self, source: Source) -> Questions:
        """The bundled questions. Raises KyaraError where step 01 set no document aside."""
        rows = load_items(NAME)
        found = shelf(source, [row["path"] for row in rows])
        items = [
            open_item(row, documents, variant, found)
            for row in source.draw(rows, NAME)
            for variant, documents in (
                (ALONE, [found.documents[row["path"]]]), (AMONG, found.among(row["path"])),
            )
        ]  # fmt: skip
        return Questions(in_order(items), "bundled", note_of(items))
