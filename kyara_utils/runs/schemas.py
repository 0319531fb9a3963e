"""The columns of every table that passes between steps, with their types: none is guessed from the rows at hand.

A guess from the rows makes an all-empty column of type null, which no later step can join, and an empty table
loses its columns altogether. Stages add columns to these schemas (`extend`); none is renamed or removed.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa

from kyara_utils.runs.errors import KyaraError

STRINGS = pa.list_(pa.string())
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))  # other keys of a message are lost
TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_(), list[str]: STRINGS}

CONVERSATION = pa.schema(
    {
        "id": pa.string(),
        "messages": MESSAGES,
        "lang": pa.string(),  # zh-Hant, zh-Hans, en or mixed
        "source": pa.string(),  # the task or data set it comes from
        "parents": STRINGS,  # ids of the chunks or rows that it was made from
        "call_ids": STRINGS,  # keys of the stored model calls behind it
        "meta": pa.string(),  # JSON
    }
)
PREFERENCE = pa.schema(
    {
        "id": pa.string(),
        "prompt": MESSAGES,
        "chosen": MESSAGES,
        "rejected": MESSAGES,
        "source": pa.string(),
        "chosen_model": pa.string(),
        "rejected_model": pa.string(),
        "verdicts": pa.string(),  # JSON
        "parents": STRINGS,
        "call_ids": STRINGS,
        "rejected_cut": pa.bool_(),  # the token limit ended the rejected answer
        "chosen_win": pa.float64(),  # SPPO's mean chances to win, null for other methods
        "rejected_win": pa.float64(),
        "step": pa.bool_(),  # both sides are one step of a solution that goes on: no end of turn follows
    }
)
REJECT = pa.schema({name: pa.string() for name in ("id", "step", "rule", "detail", "row")})  # row is JSON
DOCUMENT = pa.schema({name: pa.string() for name in ("id", "title", "text", "path")})
CHUNK = pa.schema(
    {
        "id": pa.string(),  # id_ and 8 hex digits, as answers cite it
        "doc_id": pa.string(),  # doc_ and 16 hex digits
        "title": pa.string(),
        "heading": pa.string(),  # the headings above it
        "text": pa.string(),
        "position": pa.int64(),  # its number within the document
        "tokens": pa.int64(),  # of `text`, by the embedder
        "lang": pa.string(),
        "script": pa.string(),  # ISO 15924
        "path": pa.string(),  # of the document in the corpus
        "topic": pa.string(),  # first folder of `path`
    }
)


def schema(**columns: object) -> pa.Schema:
    """The schema of a table of one step's own: `schema(id=str, n=int, tags=list[str])`.

    Types are those of `TYPES` or any Arrow type. Raises `KyaraError` for another one.
    """
    return pa.schema({name: _arrow(name, kind) for name, kind in columns.items()})


def extend(base: pa.Schema, **columns: object) -> pa.Schema:
    """`base` with the columns that a later stage adds: `extend(CONVERSATION, tags=list[str], score=float)`.

    A column that `base` already has must keep its type; then it stays where it is, so extending twice is harmless.
    """
    for field in schema(**columns):
        if field.name not in base.names:
            base = base.append(field)
        elif base.field(field.name).type != field.type:
            raise KyaraError(
                f"column {field.name} is {base.field(field.name).type}, not {field.type}; give it another name"
            )
    return base


def stored_schema(path: Path) -> pa.Schema:
    """The columns of a table that another step wrote, to be extended. Raises `KyaraError` if it cannot be read."""
    import pyarrow.parquet as pq

    try:
        return pq.read_schema(path).remove_metadata()
    except (OSError, ValueError) as error:
        raise KyaraError(f"cannot read {path}: {error}; delete it and rerun the step that writes it") from error


def guessed_schema(rows: list[dict[str, Any]]) -> pa.Schema:
    """The columns of these very rows: only for a file that one process hands to another, never for a step's table."""
    return pa.Table.from_pylist(rows).schema


def _arrow(name: str, kind: object) -> pa.DataType:
    if isinstance(kind, pa.DataType):
        return kind
    if kind not in TYPES:
        raise KyaraError(
            f"column {name} has no known type {kind}; use str, int, float, bool, list[str] or an Arrow type"
        )
    return TYPES[kind]
