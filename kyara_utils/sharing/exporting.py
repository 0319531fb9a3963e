"""`python -m kyara_utils export RECIPE --layout NAME --to FOLDER`: a run's sets as other people's tools read them.

Every row that goes in comes out or stands in `rejects.jsonl` with the rule by which the layout has no place for it.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import pyarrow as pa

from kyara_utils.report.data_sets import CONVERSATIONS, PASSAGES, PREFERENCES, DataSet, sets_of
from kyara_utils.report.site.entries import FILTERING
from kyara_utils.runs import KyaraError, RowWriter, finished, reject
from kyara_utils.runs.env import writable
from kyara_utils.runs.files import replace_text, replacing
from kyara_utils.runs.schemas import stored_schema
from kyara_utils.runs.tables import Row
from kyara_utils.sharing import annotation, layouts
from kyara_utils.sharing.repositories import rendered
from kyara_utils.sharing.source_texts import SourceTexts, as_text

STEP, REJECTED = "export", "rejects.jsonl"
Written = dict[str, int]  # file: rows


def export(recipe: str, layout: str, to: Path) -> Written:
    """Write the recipe's base, refined and preference sets into the folder `to` in a layout; return {file: rows}.

    Raises `KyaraError` where 04 is not done, the layout is unknown, or the folder holds something already.
    """
    if layout not in LAYOUTS:
        raise KyaraError(f"no layout {layout}; give one of {', '.join(LAYOUTS)}")
    found = finished(recipe)
    if FILTERING not in found:
        raise KyaraError(f"{FILTERING} is not done; run: python -m kyara_utils run {recipe} --to {FILTERING[:2]}")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise KyaraError(f"{to} is not empty; give a new folder with --to")
    made = LAYOUTS[layout](_Export(f"kyara-{recipe}", writable(to, "the folder of the export"), sets_of(found)))
    replace_text(to / "README.md", rendered("export.md.jinja", recipe=recipe, layout=layout, files=made))
    return made


class _Export:
    """What a layout is written from: the sets, the texts of the passages, the folder."""

    def __init__(self, title: str, folder: Path, sets: Sequence[DataSet]) -> None:
        self.title, self.folder = title, folder
        self.sets = [one for one in sets if one.name in (*CONVERSATIONS, PREFERENCES)]
        self.whole = [one for one in self.sets if one.name != "refined"]  # each row once
        self.passages = [one for one in sets if one.name == PASSAGES]
        self.texts = SourceTexts(sets)
        self.lost: list[Row] = []

    def table(self, one: DataSet, columns: pa.Schema, records: Iterable[Row]) -> tuple[str, int]:
        """A set's records as one Parquet file: (its name, rows)."""
        name = f"{one.name}-{one.split}.parquet"
        with RowWriter(self.folder / name, columns) as out:
            out.extend(layouts.fitting(record, columns) for record in records)
        return name, out.count

    def sharegpt(self, one: DataSet) -> Iterator[Row]:
        """The records of a set in the ShareGPT layout; rows for which it has no place are noted."""
        for row in one.rows():
            if rule := layouts.misfit(row):
                self.lost.append(reject(STEP, rule, row, one.name))
            else:
                yield layouts.sharegpt(row, self.texts.of(row))

    def finish(self, made: Written, sets: Sequence[DataSet]) -> Written:
        """Write what had no place, and prove that no row of the sets was lost."""
        if self.lost:
            with _text(self.folder / REJECTED) as out:
                out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in self.lost)
            made = made | {REJECTED: len(self.lost)}
        if sum(made.values()) != sum(one.count for one in sets):
            raise AssertionError("rows in, rows out and rejects differ")
        return made


def _trl(work: _Export) -> Written:
    made = {}
    for one in work.sets:
        records = (layouts.trl(row, work.texts.of(row)) for row in one.rows())
        name, made[name] = work.table(one, layouts.TRL_PAIR if one.name == PREFERENCES else layouts.TRL, records)
    return work.finish(made, work.sets)


def _sharegpt(work: _Export) -> Written:
    made = {}
    for one in work.sets:
        name = f"{one.name}-{one.split}.jsonl"
        columns = layouts.SHAREGPT_PAIR if one.name == PREFERENCES else layouts.SHAREGPT
        # Passages as text: of a list that is empty in its first rows a reader of JSON cannot tell the type.
        flat = (layouts.fitting(r, columns) | {"passages": as_text(r["passages"])} for r in work.sharegpt(one))
        made[name] = _lines(work.folder / name, (json.dumps(record, ensure_ascii=False) for record in flat))
    return work.finish(made, work.sets)


def _llama_factory(work: _Export) -> Written:
    made, info = {}, {}
    for one in work.sets:
        pairs = one.name == PREFERENCES
        table = layouts.SHAREGPT_PAIR if pairs else layouts.SHAREGPT
        name, made[name] = work.table(one, table, work.sharegpt(one))
        columns = {"messages": "conversations"} | ({"chosen": "chosen", "rejected": "rejected"} if pairs else {})
        entry = {"file_name": name, "formatting": "sharegpt", "ranking": pairs, "columns": columns}
        info[f"{work.title.replace('-', '_')}_{one.name}_{one.split}"] = entry
    replace_text(work.folder / "dataset_info.json", json.dumps(info, indent=2) + "\n")
    return work.finish(made, work.sets)


def _argilla(work: _Export) -> Written:
    made = {}
    for pairs, name in ((False, "conversations"), (True, "preferences")):
        sets = [one for one in work.whole if (one.name == PREFERENCES) == pairs]
        if not sets:
            continue
        about = annotation.settings(pairs)
        title = f"{work.title}-{name}"
        facts = {"settings": about, "dataset": annotation.dataset(title, about["guidelines"])}
        for file, content in facts.items():
            replace_text(work.folder / name / ".argilla" / f"{file}.json", json.dumps(content, indent=1))
        records = (annotation.record(row, work.texts.of(row), one.split) for one in sets for row in one.rows())
        made[f"{name}/records.json"] = _list(work.folder / name / "records.json", records)
    return work.finish(made, work.whole)


def _data_designer(work: _Export) -> Written:
    rows = [one for one in work.whole if one.name != PREFERENCES]
    with RowWriter(work.folder / "conversations.parquet", layouts.SEED) as out:
        out.extend(layouts.seed(row, work.texts.of(row), one.split) for one in rows for row in one.rows())
    made = {"conversations.parquet": out.count}
    for one in work.passages:
        with RowWriter(work.folder / "passages.parquet", stored_schema(one.paths[0])) as out:
            out.extend(one.rows())
        made["passages.parquet"] = out.count
    return work.finish(made, [*rows, *work.passages])


LAYOUTS: dict[str, Callable[[_Export], Written]] = {
    "trl": _trl, "llama-factory": _llama_factory, "sharegpt": _sharegpt, "argilla": _argilla,
    "data-designer": _data_designer,
}  # fmt: skip


@contextmanager
def _text(path: Path) -> Iterator[TextIO]:
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as out:
        yield out


def _lines(path: Path, lines: Iterable[str]) -> int:
    """Write JSON Lines; return their number."""
    count = 0
    with _text(path) as out:
        for line in lines:
            count += out.write(f"{line}\n") > 0
    return count


def _list(path: Path, records: Iterable[Row]) -> int:
    """Write one JSON list, a record a line, in ASCII: Argilla opens it in the system's encoding."""
    count = 0
    with _text(path) as out:
        for count, record in enumerate(records, 1):
            out.write(("[\n" if count == 1 else ",\n") + json.dumps(record))
        out.write("\n]\n" if count else "[]\n")
    return count
