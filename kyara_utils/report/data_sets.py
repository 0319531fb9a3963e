"""The sets that a run has to give away: training rows and pairs, each split into what was trained on and what was held
out of training, the passages that the rows were made from, and the rejects. Cards, exports and the Hub share this cut.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path

from kyara_utils.report.site.entries import FILTERING, MATHS, PAIRS, SFT, SYNTHESIS, Found, path_of
from kyara_utils.runs import iter_rows, meta
from kyara_utils.runs.tables import Row

CORPUS = "01_corpus_indexing"
TRAIN, TEST = "train", "test"
CALL = re.compile(r'(?<!\\)"call_[0-9a-f]{20}"')  # its id in a row's JSON, not in a text of it
ERROR = re.compile(r'(?<!\\)"error": "[^"]')
PRIVATE = ("contamination", "call_failed")  # rules
CONVERSATIONS, PREFERENCES, PASSAGES, REJECTS = ("base", "refined"), "preferences", "passages", "rejects"


@dataclass(frozen=True)
class DataSet:
    """The rows of `paths`, which share a schema, without those of `ids`, or with `only` none but those."""

    name: str
    split: str
    paths: tuple[Path, ...]
    ids: frozenset[str] = field(default=frozenset(), repr=False)
    only: bool = False

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[Row]:
        """The rows in the tables' order; of `columns`, if given, `id` must be one."""
        for row in chain.from_iterable(iter_rows(path, columns) for path in self.paths):
            if (row["id"] in self.ids) == self.only:
                yield row

    @cached_property
    def count(self) -> int:
        """Number of rows."""
        return sum(1 for _ in self.rows(["id"]))


def sets_of(found: Found) -> list[DataSet]:
    """The sets of the finished steps that hold a row, in the order in which a card lists them.

    The split `test` is what 05 held out of the training rows, and 06 of the pairs. Of the rejects only those that the
    run made itself are given away, and none that holds a benchmark's question or a server's error. Reads the origin of
    every training row once, to know the passages, and the rejects.
    """
    held = _ids(path_of(found, SFT, "held_out_parquet"))
    sets = []
    for name in CONVERSATIONS:
        if path := path_of(found, FILTERING, name):
            sets += [DataSet(name, TRAIN, (path,), held), DataSet(name, TEST, (path,), held, only=True)]
    sets += pair_sets(found)
    if path := path_of(found, CORPUS, "chunks"):
        named = frozenset(name for row in _training_rows(sets) for name in passage_ids(row))
        sets.append(DataSet(PASSAGES, TRAIN, (path,), named, only=True))
    if paths := [path for step in (SYNTHESIS, MATHS, FILTERING, PAIRS) if (path := path_of(found, step, REJECTS))]:
        sets.append(DataSet(REJECTS, TRAIN, tuple(paths), _private(paths) | _foreign(found)))
    return [one for one in sets if one.count]


def _private(paths: list[Path]) -> frozenset[str]:
    """Ids of rejects that hold a benchmark's question, which would end in the next model's training, or the error of a
    call, which may name hosts and accounts."""
    rows = chain.from_iterable(iter_rows(path, ["id", "rule", "row"]) for path in paths)
    return frozenset(row["id"] for row in rows if row["rule"] in PRIVATE or ERROR.search(row["row"]))


def _foreign(found: Found) -> frozenset[str]:
    """Ids of rejects of 04 and 06 that the run did not make, or that hold what it did not: rows of open sets, published
    pairs, labelled ones. Their licences may forbid it, and a set read whole would leave with its rejects."""
    written = frozenset().union(*(_ids(path_of(found, step, "conversations")) for step in (SYNTHESIS, MATHS)))
    rejects = chain.from_iterable(iter_rows(path) for s in (FILTERING, PAIRS) if (path := path_of(found, s, REJECTS)))
    return frozenset(row["id"] for row in rejects if not _made_here(row, written))


def _made_here(row: Row, written: frozenset[str]) -> bool:
    """Whether a reject of 04 was written by 02 or 03, or one of 06 names a call of the run, and no row of others.

    Told by what is there, not by what is lacking: a row of a kind that nobody thought of stays at home. A call's id
    that stands inside a text has its quotation marks escaped.
    """
    if row["step"] == FILTERING:
        return row["id"] in written
    made = json.loads(row["row"])
    named = (row["id"], made.get("row"), *(made.get("parents") or ()))
    rows = (name for name in named if str(name).startswith("conv_"))
    return bool(CALL.search(row["row"])) and not {"item", "label"} & made.keys() and written.issuperset(rows)


def borrowed(sets: Sequence[DataSet]) -> Counter[tuple[str, str]]:
    """{(source, its licence as far as known): rows} of the training rows and pairs that other people made."""
    notes = {CONVERSATIONS[0]: "meta", PREFERENCES: "verdicts"}  # where `curation.published_files.origin` stands
    found: Counter[tuple[str, str]] = Counter()
    for one in (one for one in sets if one.name in notes):
        column = notes[one.name]
        for row in one.rows(["id", "source", column]):
            note = json.loads(row[column] or "{}")
            if {"file", "line"} <= note.keys():
                found[row["source"], note.get("licence", "not stated")] += 1
    return found


def pair_sets(found: Found) -> list[DataSet]:
    """The two splits of the pairs, as far as they hold one."""
    paths = [(split, path_of(found, PAIRS, table)) for split, table in ((TRAIN, PREFERENCES), (TEST, "held_out"))]
    sets = [DataSet(PREFERENCES, split, (path,)) for split, path in paths if path]
    return [one for one in sets if one.count]


def passage_ids(row: Row) -> list[str]:
    """Ids of the chunks that a training row was made from, without repeats: its parents, what its prompt shows, and the
    hits that were judged relevant. A row without chunks (maths, open sets) has none."""
    known = meta(row)
    relevant = [hit["id"] for hit in known.get("hits") or () if hit.get("relevant")]
    ids = [*(row["parents"] or ()), *(known.get("context") or ()), *relevant]
    return [name for name in dict.fromkeys(ids) if name.startswith("id_")]


def _training_rows(sets: list[DataSet]) -> Iterator[Row]:
    base = [one for one in sets if one.name == CONVERSATIONS[0]]
    return chain.from_iterable(one.rows(["id", "parents", "meta"]) for one in base)


def _ids(path: Path | None) -> frozenset[str]:
    return frozenset(row["id"] for row in iter_rows(path, ["id"])) if path else frozenset()
