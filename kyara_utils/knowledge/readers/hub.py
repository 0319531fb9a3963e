"""Any Hugging Face dataset as a corpus, streamed: `hub:PATH[:NAME[:SPLIT[:TEXT_FIELD]]]`.

`hub:wikimedia/wikipedia:20231101.zh` reads the field `text` of its split `train`; `hub:org/set::test:body` leaves
the configuration to the dataset. PATH may be a local folder of data files. Datasets that need their own code are
not run: the library has dropped them.
"""

from collections.abc import Iterator
from typing import Any

from kyara_utils.knowledge.readers.documents import Document, ReaderOptions, row_documents
from kyara_utils.runs.errors import KyaraError

PREFIX = "hub:"
SYNTAX = "hub:PATH[:NAME[:SPLIT[:TEXT_FIELD]]], for example hub:wikimedia/wikipedia:20231101.zh"


def parse_source(source: str) -> tuple[str, str | None, str, str]:
    """Return (path, name, split, text field). Raises `KyaraError` on anything else than the syntax above."""
    parts = source.removeprefix(PREFIX).split(":")
    if not parts[0] or len(parts) > 4:
        raise KyaraError(f"corpus {source!r} is not of the form {SYNTAX}")
    path, name, split, field = (part.strip() for part in (*parts, "", "", "")[:4])
    return path, name or None, split or "train", field or "text"


def read_hub(source: str, convert: str = "") -> Iterator[Document | dict[str, Any]]:
    """Yield the rows of a dataset as documents or reject rows. Raises `KyaraError` if it cannot be read."""
    path, name, split, field = parse_source(source)
    options, number = ReaderOptions(field, convert), 0
    try:
        from datasets import load_dataset

        for number, row in enumerate(load_dataset(path, name, split=split, streaming=True), 1):
            if number == 1 and field not in row:
                raise KyaraError(f"{source}: no field {field!r}; it has {', '.join(row)}; name one as {SYNTAX}")
            yield from row_documents(row, f"{path} {number}", f"{path}#{number}", options)
    except KyaraError:
        raise
    except Exception as error:  # the library, its HTTP client and its file formats raise some twenty kinds
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise KyaraError(f"cannot read {source} after {number} rows: {reason}; check name and network") from error
