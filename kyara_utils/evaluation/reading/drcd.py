"""DRCD: 30,000 questions that people wrote on paragraphs of the Chinese Wikipedia, in Traditional characters.

Read from the published JSON (SQuAD's layout, github.com/DRCKnowledgeTeam/DRCD, CC BY-SA 3.0); all human answers to a
question count. In `answers` id 1 is the annotator's, the others are people who answered.
"""

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kyara_utils.evaluation.benchmark import Questions, Source
from kyara_utils.evaluation.question_files import ENV
from kyara_utils.evaluation.reading.contexts import ALONE, AMONG, Shelf, around
from kyara_utils.evaluation.reading.short_reading import Reading, in_order
from kyara_utils.evaluation.registry import register
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row

FILES = ("DRCD_test.json", "DRCD_test.json.gz", "DRCD_dev.json", "DRCD_dev.json.gz")  # the first that is there
POOL = 1000  # paragraphs from which distractors are drawn


@register
class Drcd(Reading):
    """Each question twice: with its paragraph alone, and with it among paragraphs of other articles."""

    name = "drcd"
    title = "DRCD (character F1)"
    dataset = "DRCKnowledgeTeam/DRCD"
    licence = "CC BY-SA 3.0"

    def load(self, source: Source) -> Questions:
        """Questions of `FOLDER/DRCD_test.json` or `_dev` (also .gz, also in FOLDER/drcd)."""
        place = str(source.folder or os.environ.get(ENV, ""))
        path = published_file(place)
        try:
            articles = read_json(path)["data"]
            paragraphs = {row["path"]: row for row in paragraphs_of(articles)}
            questions = list(questions_of(articles))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise KyaraError(f"drcd: {path.name} is not the published file ({type(error).__name__})") from error
        shelf = Shelf(paragraphs, frozenset(sorted(paragraphs)[:: max(1, len(paragraphs) // POOL)]), source.seed)
        drawn = source.draw(questions, self.name)
        items = [item for row in drawn for item in both(row, shelf)]
        return Questions(in_order(items), path.name)

    def seen(self, item: Row) -> bool:
        """Only the training text tells."""
        return False


def published_file(place: str) -> Path:
    """The file below a data folder. Raises KyaraError where there is none."""
    folders = [Path(place) / "drcd", Path(place)] if place else []
    found = [folder / name for folder in folders for name in FILES if (folder / name).is_file()]
    if not found:
        where = f"in {place}" if place else f"since no data folder is given ({ENV} is not set)"
        raise KyaraError(f"no {FILES[0]} and no {FILES[2]} {where}")
    return found[0]


def read_json(path: Path) -> Any:
    """A JSON file, gzipped or not."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        return json.load(file)


def paragraphs_of(articles: list[Row]) -> Iterator[Row]:
    """Documents {id, title, text, path} of the published articles, one a paragraph; `path` is the paragraph's id."""
    for article in articles:
        for paragraph in article["paragraphs"]:
            name = str(paragraph["id"])
            yield {"id": name, "title": str(article["title"]), "text": str(paragraph["context"]), "path": name}


def questions_of(articles: list[Row]) -> Iterator[Row]:
    """Rows {id, path, question, answers[], evidence}; equal answers once."""
    for article in articles:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                answers = list(dict.fromkeys(str(answer["text"]) for answer in asked["answers"]))
                kept = {"question": str(asked["question"]), "answers": answers}
                evidence = around(str(paragraph["context"]), answers)
                yield {"id": str(asked["id"]), "path": str(paragraph["id"]), "evidence": evidence} | kept


def both(row: Row, shelf: Shelf) -> Iterator[Row]:
    """The two items of a question."""
    for variant, documents in ((ALONE, [shelf.documents[row["path"]]]), (AMONG, shelf.among(row["path"]))):
        yield row | {"id": f"{row['id']}/{variant}", "variant": variant, "documents": documents, "unseen": True}
