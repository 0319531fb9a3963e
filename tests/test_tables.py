"""Tables between steps: types that do not depend on the rows at hand, memory that does not depend on their number."""

import errno
import json
import math
import random
import signal
import subprocess
import sys
import tempfile
import tracemalloc
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kyara_utils.evaluation.backends.journal import Journal
from kyara_utils.runs import KyaraError, RowWriter, iter_rows, read_jsonl, read_rows, reject, write_csv, write_rows
from kyara_utils.runs.manifest import rows_in
from kyara_utils.runs.schemas import CHUNK, CONVERSATION, PREFERENCE, REJECT, extend, schema
from kyara_utils.runs.stored_rows import having, only, picked, stored, taken
from kyara_utils.runs.tables import BATCH

TALK = {"id": "a", "messages": [{"role": "user", "content": "你好"}], "lang": "zh-Hant", "source": "rag",
        "parents": [], "call_ids": ["c"], "meta": "{}"}  # fmt: skip


@pytest.mark.parametrize("columns", [CHUNK, CONVERSATION, PREFERENCE, REJECT])
def test_an_empty_table_has_its_types(tmp_path, columns):
    """Step 04 joins the tables of 02 and 03 even when one of them is empty."""
    write_rows(tmp_path / "t.parquet", [], columns)
    assert pq.read_schema(tmp_path / "t.parquet").equals(columns)


def test_an_all_empty_column_keeps_its_type(tmp_path):
    """Guessed, `tags` would be list<null> and `score` null, and a later full file could not be joined to this one."""
    wide = extend(CONVERSATION, tags=list[str], score=float)
    write_rows(tmp_path / "t.parquet", [TALK | {"tags": [], "score": None}], wide)
    assert pq.read_schema(tmp_path / "t.parquet").equals(wide)
    assert read_rows(tmp_path / "t.parquet") == [TALK | {"tags": [], "score": None}]


def test_schemas_are_extended_not_changed():
    """A stage that gives a known column another type would break every reader of the column."""
    assert extend(CONVERSATION, source=str) == CONVERSATION
    assert extend(REJECT, n=int).names == [*REJECT.names, "n"]
    assert schema(a=pa.list_(pa.int32())).field("a").type == pa.list_(pa.int32())
    with pytest.raises(KyaraError, match="source is string, not int64"):
        extend(CONVERSATION, source=int)
    with pytest.raises(KyaraError, match="column x has no known type"):
        schema(x=complex)


def test_the_reject_row_has_the_columns_of_its_table():
    """A column added to one of the two alone would be lost, or stop every step."""
    assert list(reject("01", "rule", {"id": "x"})) == REJECT.names


@pytest.mark.parametrize(
    ("row", "words"),
    [(TALK | {"tag": "x"}, "no column tag; add it"), (TALK | {"parents": 3}, "column parents must be list"),
     (TALK | {"id": 3}, "column id must be string"), (TALK | {"id": "\ud800"}, "column id must be string")],
)  # fmt: skip
def test_a_row_that_does_not_fit_is_named(tmp_path, row, words):
    """Arrow would drop an unknown column without a word."""
    with pytest.raises(KyaraError, match=words) as error:
        write_rows(tmp_path / "t.parquet", [row], CONVERSATION)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_batches_do_not_show(tmp_path):
    """Equal rows give equal bytes whether they come one by one or together: a rerun must not spread."""
    rows = [TALK | {"id": str(n)} for n in range(10_000)]
    write_rows(tmp_path / "a.parquet", rows, CONVERSATION)
    with RowWriter(tmp_path / "b.parquet", CONVERSATION) as out:
        out.extend(rows[:3])
        for row in rows[3:]:
            out.add(row)
    assert out.count == 10_000
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert list(iter_rows(tmp_path / "b.parquet", batch=7)) == rows
    assert next(iter_rows(tmp_path / "b.parquet", columns=["id", "messages"])) == {
        "id": "0",
        "messages": TALK["messages"],
    }


def test_an_interrupted_table_leaves_the_old_one(tmp_path):
    """Half a table under its final name would be read as the whole by every later step."""
    path = write_rows(tmp_path / "t.parquet", [TALK], CONVERSATION)
    with pytest.raises(KeyboardInterrupt), RowWriter(path, CONVERSATION) as out:
        out.extend(TALK | {"id": str(n)} for n in range(5000))
        raise KeyboardInterrupt
    assert read_rows(path) == [TALK] and [item.name for item in tmp_path.iterdir()] == ["t.parquet"]


def test_a_killed_writer_leaves_no_litter(tmp_path):
    """Each kill -9 of a long step would leave another half table on the disk."""
    code = """
import os, signal, sys
from kyara_utils.runs import RowWriter
from kyara_utils.runs.schemas import REJECT
with RowWriter(sys.argv[1], REJECT) as out:
    out.extend({"id": str(n)} for n in range(5000))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    path = tmp_path / "t.parquet"
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith("t.parquet.") and left.suffix == ".tmp"
    with RowWriter(path, REJECT) as living, RowWriter(tmp_path / "other.parquet", REJECT):
        living.add({"id": "x"})
        assert not left.exists()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["other.parquet", "t.parquet"]


def test_reading_names_what_is_wrong(tmp_path):
    """A column that is not there reads as nothing at all in Arrow."""
    path = write_rows(tmp_path / "t.parquet", [TALK], CONVERSATION)
    with pytest.raises(KyaraError, match="no column score; rerun"):
        next(iter_rows(path, columns=["score"]))
    path.write_bytes(path.read_bytes()[:-20])
    for broken in (path, tmp_path / "missing.parquet"):
        with pytest.raises(KyaraError, match="rerun the step that writes it"):
            next(iter_rows(broken))


def test_lines_and_rows_are_those_that_were_written(tmp_path):
    """Answers hold line separators of Unicode and, in CSV, line breaks: neither begins a row."""
    texts = ["甲\u2028乙", "甲\u0085乙", "甲\n乙"]
    path = tmp_path / "t.jsonl"
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    path.write_text("\n\n".join(lines), encoding="utf-8-sig")
    assert [row["text"] for row in read_jsonl(path)] == texts
    assert rows_in(write_csv(tmp_path / "t.csv", [{"text": text} for text in texts])) == 3
    journal = Journal(tmp_path / "j.jsonl")
    for text in texts:
        journal.put(text, text)
    assert list(Journal(tmp_path / "j.jsonl").found) == texts


def test_memory_does_not_grow_with_the_table(tmp_path):
    """A list of 3.6 million conversations takes tens of GB; a batch of them does not."""

    def peak(n: int) -> int:
        tracemalloc.start()
        with RowWriter(tmp_path / f"{n}.parquet", REJECT, batch=256) as out:
            out.extend(reject("01", "rule", {"id": str(at), "text": "字" * 500}) for at in range(n))
        assert sum(1 for _ in iter_rows(tmp_path / f"{n}.parquet", batch=256)) == n
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    small, large = peak(1000), peak(8000)
    assert math.isclose(small, large, rel_tol=0.3), (small, large, sys.version)


def conversations(count: int) -> list[dict]:
    """Rows as steps write them, of every column."""
    return [
        {
            "id": f"conv_{number:04x}",
            "messages": [
                {"role": "user", "content": f"問{number}"},
                {"role": "assistant", "content": "答" * (number % 5)},
            ],
            "lang": "zh-Hant",
            "source": "rag",
            "parents": [f"id_{number}"] * (number % 3),
            "call_ids": [],
            "meta": None if number % 4 else "{}",
        }
        for number in range(count)
    ]


def test_stored_rows_are_those_of_a_list() -> None:
    """A filter must not see whether its rows are in memory: any choice of rows and columns is the same."""
    plain = conversations(2 * BATCH + 5)
    kept = stored(iter(plain), CONVERSATION)
    rng = random.Random(0)
    some, few = rng.sample(range(len(plain)), 300), rng.sample(range(300), 40)
    for rows in (kept, plain):
        assert list(rows) == plain and rows[-1] == plain[-1] and rows[7:9] == plain[7:9] and len(rows) == len(plain)
        assert picked(rows, some) == [plain[at] for at in some] and picked(rows, []) == []
        chosen = having(taken(rows, some), score=some, lang=["en"] * 300)
        chosen = taken(having(chosen, tags=[[str(at)] for at in some]), few)
        assert list(chosen) == [
            plain[some[at]] | {"score": some[at], "lang": "en", "tags": [str(some[at])]} for at in few
        ]
        assert [row["score"] for row in only(chosen, "score")] == [some[at] for at in few]
        assert list(having(rows[:0], score=[])) == []
    assert set(only(kept, "id", "lang")[0]) == {"id", "lang"}
    with pytest.raises(IndexError):
        kept[len(plain)]
    with pytest.raises(KyaraError, match="column score"):
        stored([plain[0] | {"score": 1.0}], CONVERSATION)


def test_a_full_disk_of_temporary_files_is_said_in_one_line(tmp_path, monkeypatch) -> None:
    """The rows take as much as their text, in a folder that few know; what was begun must not fill it further."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with small_files(50_000), pytest.raises(KyaraError, match=f"in {tmp_path} .* TMPDIR") as raised:
        stored(conversations(2 * BATCH), CONVERSATION)
    assert "\n" not in str(raised.value) and not list(tmp_path.iterdir())
    with pytest.raises(KyaraError, match="column score"):
        stored([TALK | {"score": 1.0}], CONVERSATION)
    assert not list(tmp_path.iterdir()), "any other failure leaves nothing, too"
    with pytest.raises(PermissionError):  # of a file that the rows come from
        stored(raising(PermissionError(errno.EACCES, "of the source")), CONVERSATION)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(KyaraError, match="none .No such file or directory.*TMPDIR"):
        stored([TALK], CONVERSATION)


@contextmanager
def small_files(size: int):
    """No file of this process may grow beyond so many bytes: a disk that is full, for whoever writes."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def raising(error: Exception):
    """An iterator that fails at once."""
    raise error
    yield
