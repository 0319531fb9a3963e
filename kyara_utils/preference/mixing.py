"""Pairs of all sources as one table: leaks and repeats removed across sources, sizes drawn, some prompts held out.

Rows stream through a temporary table: the first pass looks for benchmark items, equal pairs and alike prompts, the
second for repeated pairs, the third writes. Of each row only its id, a few numbers and the fingerprints of `repeats`
are held, some 2 kB: good for 1,000,000 pairs. The first of two repeats stays, so sources come in the order of
preference; what is drawn and held out depends on seed and ids alone.
"""

import json
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from kyara_utils.curation.decontamination import BenchmarkNgrams
from kyara_utils.curation.rows import key64
from kyara_utils.preference.mixed import STAGES, Mixed
from kyara_utils.preference.open_preferences import Read
from kyara_utils.preference.preference_rows import STEP
from kyara_utils.preference.repeats import Prompts, Repeats
from kyara_utils.preference.shares import side_lengths, sizes
from kyara_utils.preference.step_pairs import SOURCE as STEPS
from kyara_utils.preference.verified import SOURCE
from kyara_utils.preference.verifiers import CHECKS
from kyara_utils.runs import RowWriter, iter_rows, reject
from kyara_utils.runs.funnel import Funnel
from kyara_utils.runs.schemas import PREFERENCE, REJECT
from kyara_utils.runs.tables import Row
from kyara_utils.training.data import split_held_out

# Sources of step 06 itself; a mixture may name one that gave no pair.
OWN = ("rlaif", "spin", "sppo", *(SOURCE.format(kind) for kind in CHECKS), STEPS)
BATCH = 1024  # rows looked at together
IN, REPEATED, NOT_DRAWN = range(3)  # what becomes of a row of the temporary table


def mix_preferences(
    reads: Iterable[Read], folder: Path, ngrams: BenchmarkNgrams, *, mixture: Mapping[str, int | str] | None = None,
    held_out_share: float = 0.0, rejects: Iterable[Row] = (), near: float = 0.7, seed: int = 0,
) -> Mixed:  # fmt: skip
    """Write `preferences.parquet`, `held_out.parquet` and `rejects.parquet` (with `rejects` first) into `folder`.

    reads: preference rows or rejects, the sources one after the other, as `read_open_preferences` yields them.
    mixture: see `sizes`. held_out_share: share of the rows drawn that is kept out of training, with all rows of like
    prompts or common parents. near: Jaccard similarity from which prompts or answers are alike. Rows in = rows out +
    held out + rejects, by the rules of reading and of `STAGES`. Raises `KyaraError` for a mixture or share that cannot
    be.
    """
    table = folder / "unmixed.parquet"
    try:
        with RowWriter(folder / "rejects.parquet", REJECT) as refused:
            refused.extend(rejects)
            work, prompts = _Work(refused), Prompts(near, seed)
            _read(work, reads, table, prompts, ngrams)
            _drop_repeats(work, table, Repeats(prompts.labels, near, seed))
            _draw(work, mixture or {}, seed)
            out, held_out = _write(work, table, folder, _held_out(work, prompts.labels, held_out_share, seed))
    finally:
        table.unlink(missing_ok=True)
    lengths = side_lengths(work.lengths())
    return Mixed(work.incoming.total(), out, held_out, work.rules.total(), work.funnel(), lengths)


@dataclass
class _Work:
    """The account, and what is known of each row of the temporary table, in its order, without its texts."""

    refused: RowWriter
    incoming: Counter = field(default_factory=Counter)  # rows by source
    rules: Counter = field(default_factory=Counter)  # rejects by (source, rule)
    ids: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    parents: dict[int, list[str]] = field(default_factory=dict)
    chosen: array = field(default_factory=lambda: array("q"))  # characters
    rejected: array = field(default_factory=lambda: array("q"))
    fate: bytearray = field(default_factory=bytearray)

    def add(self, row: Row) -> None:
        if row["parents"]:
            self.parents[len(self.ids)] = row["parents"]
        self.ids.append(row["id"])
        self.sources.append(row["source"])
        self.chosen.append(len(row["chosen"][-1]["content"]))
        self.rejected.append(len(row["rejected"][-1]["content"]))
        self.fate.append(IN)

    def refuse(self, row: Row, rule: str, detail: str = "") -> None:
        self.refused.add(reject(STEP, rule, row, detail))
        self.rules[row["source"], rule] += 1

    def places(self) -> dict[str, list[int]]:
        """Where the rows stand that are still in, by source in the order in which sources came."""
        found: dict[str, list[int]] = {source: [] for source in self.incoming}
        for at, source in enumerate(self.sources):
            if self.fate[at] == IN:
                found[source].append(at)
        return found

    def lengths(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        sides = [np.array(side, np.int64) for side in (self.chosen, self.rejected)]
        return {source: (sides[0][places], sides[1][places]) for source, places in self.places().items()}

    def funnel(self) -> Funnel:
        funnel, left, known = Funnel(), Counter(self.incoming), set().union(*STAGES.values())
        others = {rule for _, rule in self.rules} - known
        for stage, rules in ({"read": others} | STAGES).items():
            before, rejected = dict(left), {key: n for key, n in self.rules.items() if key[1] in rules}
            for (source, _), n in rejected.items():
                left[source] -= n
            funnel.count(stage, before, left, rejected)
        return funnel


def _read(work: _Work, reads: Iterable[Read], table: Path, prompts: Prompts, ngrams: BenchmarkNgrams) -> None:
    """The first pass: into the temporary table go rows that no earlier row equals and that hold no benchmark item."""
    seen: set[str] = set()
    with RowWriter(table, PREFERENCE) as out:
        for part in _parts(reads):
            rows = [row for row, refusal in part if _is_new(work, row, refusal, seen, ngrams)]
            for row in rows:
                work.add(row)
            prompts.add(rows)
            out.extend(rows)


def _is_new(work: _Work, row: Row, refusal: Row | None, seen: set[str], ngrams: BenchmarkNgrams) -> bool:
    if refusal:
        source = json.loads(refusal["row"])["source"]
        work.incoming[source] += 1
        work.rules[source, refusal["rule"]] += 1
        work.refused.add(refusal)
        return False
    work.incoming[row["source"]] += 1
    if row["id"] in seen:
        work.refuse(row, "duplicate_pair")
        return False
    seen.add(row["id"])
    said = (m["content"] for part in ("prompt", "chosen", "rejected") for m in row[part] if m["role"] != "system")
    match = next((hit for text in said if (hit := ngrams.match(text))), None)
    if match:
        work.refuse(row, "contamination", f"item={match[0]} span={match[1]}")
    return not match


def _parts(items: Iterable) -> Iterator[list]:
    items = iter(items)
    while part := list(islice(items, BATCH)):
        yield part


def _drop_repeats(work: _Work, table: Path, repeats: Repeats) -> None:
    """The second pass."""
    at = 0
    for rows in _parts(iter_rows(table)):
        for row, (rule, witness) in zip(rows, repeats.add(rows), strict=True):
            if rule:
                work.refuse(row, rule, f"witness={witness}")
                work.fate[at] = REPEATED
            at += 1


def _draw(work: _Work, mixture: Mapping[str, int | str], seed: int) -> None:
    """Leave in what `mixture` asks for: of each source the rows of the smallest hashes of seed and id."""
    places = work.places()
    taken = sizes(dict.fromkeys(OWN, 0) | {source: len(found) for source, found in places.items()}, mixture)
    for source, found in places.items():
        if taken[source] < len(found):
            found.sort(key=lambda at: (key64((seed, work.ids[at])), work.ids[at]))
            for at in found[taken[source] :]:
                work.fate[at] = NOT_DRAWN


def _held_out(work: _Work, labels: Sequence[int], share: float, seed: int) -> set[str]:
    """Ids of the rows that are kept out of training."""
    if not share:
        return set()
    rows = [
        {"id": work.ids[at], "parents": [f"prompt {labels[at]}", *work.parents.get(at, ())]}
        for found in work.places().values()
        for at in found
    ]
    return {row["id"] for row in split_held_out(rows, share, seed)[1]}


def _write(work: _Work, table: Path, folder: Path, held: set[str]) -> tuple[int, int]:
    """The third pass; return rows for training and rows held out."""
    main, other = (RowWriter(folder / f"{name}.parquet", PREFERENCE) for name in ("preferences", "held_out"))
    with main, other:
        for at, row in enumerate(iter_rows(table)):
            if work.fate[at] == IN:
                (other if row["id"] in held else main).add(row)
            elif work.fate[at] == NOT_DRAWN:
                work.refuse(row, "not_drawn")
    return main.count, other.count
