"""Ground floor: where a run lives, what it was given, what it made, and whether that is still true."""

from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.finished import finished, trained_models
from kyara_utils.runs.run import Run, start
from kyara_utils.runs.tables import (
    RowWriter,
    answer,
    append_rows,
    content_id,
    iter_rows,
    meta,
    question,
    read_csv,
    read_jsonl,
    read_rows,
    reject,
    sample,
    sample_rows,
    write_csv,
    write_rows,
)

__all__ = [
    "KyaraError", "RowWriter", "Run", "answer", "append_rows", "content_id", "finished", "iter_rows", "meta",
    "question", "read_csv", "read_jsonl", "read_rows", "reject", "sample", "sample_rows", "start", "trained_models",
    "write_csv", "write_rows",
]  # fmt: skip
