"""Ground floor: where a run lives, what it was given, what it made, and whether that is still true."""

from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.run import Run, finished, start
from kyara_utils.runs.tables import (
    RowWriter,
    answer,
    content_id,
    iter_rows,
    meta,
    question,
    read_csv,
    read_jsonl,
    read_rows,
    reject,
    sample,
    write_csv,
    write_rows,
)

__all__ = [
    "KyaraError", "RowWriter", "Run", "answer", "content_id", "finished", "iter_rows", "meta", "question", "read_csv", "read_jsonl",
    "read_rows", "reject", "sample", "start", "write_csv", "write_rows",
]  # fmt: skip
