"""OpenAI's Batch API, by files: calls go out as one JSONL, their results come back into the same ledger.

A model with `batch: true` is not asked. What a stage lacks is written to `batch/` beside the ledger and the stage
stops; when the provider's result file lies beside it as `NAME.output.jsonl`, the same command goes on. Half the price
at most providers, and no rate limits (https://platform.openai.com/docs/guides/batch).
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from kyara_utils.llm.endpoints import Model
from kyara_utils.llm.ledger import Call, Ledger, Reply, call_of
from kyara_utils.llm.reading import Unreadable, read_response
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.files import replacing


class Line(NamedTuple):
    """One call that waits: its key, path and body."""

    key: str
    path: str
    body: bytes


def folder_of(ledger: Ledger) -> Path:
    """Where batch files lie."""
    return ledger.path.parent / "batch"


def handed_out(ledger: Ledger, model: Model, waiting: Sequence[Line]) -> KyaraError:
    """Write the waiting calls as a batch file and return the message that says how to go on."""
    lines = {line.key: line for line in waiting}
    name = hashlib.blake2b("".join(sorted(lines)).encode(), digest_size=5).hexdigest()
    path = folder_of(ledger) / f"{model.name}-{name}.jsonl"
    with replacing(path) as temporary:
        temporary.write_bytes(b"\n".join(_request(line) for line in lines.values()) + b"\n")
    return KyaraError(
        f"{len(lines)} calls of {model.name} wait in {path}; submit it, save the result as "
        f"{path.stem}.output.jsonl beside it, and rerun"
    )


def _request(line: Line) -> bytes:
    shell = {"custom_id": line.key, "method": "POST", "url": f"/v1{line.path}", "body": orjson.Fragment(line.body)}
    return orjson.dumps(shell)


def collect(ledger: Ledger, model: Model, seen: set[tuple[str, int]]) -> int:
    """Read this model's result files that are not among `seen` (name, time) into the ledger; return the calls read."""
    if not model.batch:
        return 0
    count = 0
    for output in sorted(folder_of(ledger).glob(f"{model.name}-*.output.jsonl")):
        stamp = (output.name, output.stat().st_mtime_ns)
        if stamp in seen:
            continue
        seen.add(stamp)
        asked = output.with_name(output.name.replace(".output.jsonl", ".jsonl"))
        bodies = {row["custom_id"]: orjson.dumps(row["body"]) for row in _rows(asked)}
        calls = list(_calls(ledger, model, bodies, _rows(output)))
        ledger.add(calls)
        count += len(calls)
    return count


def _calls(ledger: Ledger, model: Model, bodies: dict[str, bytes], rows: Iterator[dict[str, Any]]) -> Iterator[Call]:
    """Answered calls; an error in a row is recorded as a failure, so the next batch asks it again."""
    for row in rows:
        key, response = row.get("custom_id"), row.get("response") or {}
        if key not in bodies:
            continue
        body = response.get("body") or {}
        try:
            read_response(key, body)
            yield call_of(key, model.name, bodies[key], Reply(orjson.dumps(body), body, attempts=1))
        except Unreadable as error:
            if ledger.get(key) is None:
                why = str(row.get("error") or error)[:300]
                ledger.fail(key, model.name, bodies[key], why, 1, orjson.dumps(response))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with open(path, "rb") as file:
            yield from (orjson.loads(line) for line in file if line.strip())
    except (OSError, ValueError) as error:
        raise KyaraError(f"cannot read the batch file {path} ({error}); download it again") from error
