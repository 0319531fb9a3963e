"""Ground floor: where a run lives, what it was given, what it made, and whether that is still true."""

from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.run import Run, finished, start
from kyara_utils.runs.tables import content_id, read_csv, read_jsonl, read_rows, reject, write_csv, write_rows

__all__ = [
    "KyaraError", "Run", "content_id", "finished", "read_csv", "read_jsonl", "read_rows", "reject", "start", "write_csv", "write_rows",
]  # fmt: skip
