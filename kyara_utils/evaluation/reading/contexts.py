"""What a question is asked with: its document, alone or among others.

Distractors and their order depend on the document and the seed, not on the question, so that all questions of a
document share the beginning of their prompt.
"""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from kyara_utils.evaluation.benchmark import Source
from kyara_utils.runs import content_id, iter_rows
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row

DATA = Path(__file__).resolve().parents[2] / "data"
DISTRACTORS = 2
ROOM = 1800  # characters of all documents together: with worked examples they fit a context of 2,048 tokens
POOL = 2000  # documents from which distractors are drawn
AROUND = 24
ALONE, AMONG = "alone", "distractors"


@dataclass(frozen=True)
class Shelf:
    """Documents {id, title, text, path} by path; `unseen` names those that step 01 set aside."""

    documents: Mapping[str, Row]
    unseen: frozenset[str]
    seed: int = 0

    def among(self, path: str) -> list[Row]:
        """A document with its distractors, shuffled."""
        own, picker = self.documents[path], random.Random(f"{self.seed} {path}")
        found = [own, *self._drawn(own, picker)]
        picker.shuffle(found)
        return found

    def without(self, path: str) -> list[Row]:
        """The distractors of a document alone."""
        return [document for document in self.among(path) if document["path"] != path]

    def _drawn(self, own: Row, picker: random.Random) -> Iterator[Row]:
        """Unseen documents under other titles that leave room for each other."""
        most = (ROOM - len(own["text"])) / DISTRACTORS
        others = [self.documents[path] for path in sorted(self.unseen)]
        fitting = [one for one in others if one["title"] != own["title"] and len(one["text"]) <= most]
        return iter(picker.sample(fitting, min(DISTRACTORS, len(fitting))))


def shelf(source: Source, paths: Iterable[str]) -> Shelf:
    """The documents that step 01 set aside, and the bundled article of each other path.

    Raises KyaraError where none was set aside, or an article is missing.
    """
    wanted = set(paths)
    rows = iter_rows(source.unseen) if source.unseen and source.unseen.is_file() else iter(())
    known = dict(islice(((row["path"], row) for row in rows), POOL))
    known |= {row["path"]: row for row in rows if row["path"] in wanted}
    if not known:
        raise KyaraError("step 01 set no document aside; set its unseen_share, such as 0.2")
    documents = known | {path: bundled(path) for path in sorted(wanted - known.keys())}
    return Shelf(documents, frozenset(known), source.seed)


def bundled(path: str) -> Row:
    """An article of the bundled corpus: its first heading is the title."""
    place = (DATA / "corpus" / path).resolve()
    if not (place.is_relative_to(DATA / "corpus") and place.is_file()):
        raise KyaraError(f"the bundled corpus has no article {path}; correct the path of the question")
    title, _, text = place.read_text(encoding="utf-8").partition("\n")
    return {"id": content_id(path), "title": title.lstrip("# ").strip(), "text": text.strip(), "path": path}


def around(text: str, answers: Sequence[str]) -> str:
    """The text around the first answer that it holds, `AROUND` characters on either side; "" where it holds none."""
    found = next(((text.find(answer), answer) for answer in answers if answer in text), None)
    return text[max(0, found[0] - AROUND) : found[0] + len(found[1]) + AROUND] if found else ""
