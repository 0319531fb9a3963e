"""Published conversation sets beside our own rows: from the Hub by name, or from files in any usual layout.

A row that is no conversation becomes a reject row with file and line; no row stops the step.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from kyara_utils.curation.language import language_of
from kyara_utils.curation.rows import STEP
from kyara_utils.curation.turns import Unreadable, messages_of
from kyara_utils.runs import KyaraError, content_id, iter_rows, reject
from kyara_utils.runs.tables import Row

ENDINGS = (".parquet", ".jsonl", ".json")
CHUNK = 1 << 20  # characters read at once of a JSON array
LONGEST = 1 << 26  # characters of one item of a JSON array
ABOUT = ("dataset_info.json", "dataset_infos.json")  # of a set, without rows of it
_GAP = re.compile(r"[\s,]*")


@dataclass(frozen=True)
class OpenSet:
    """A published set: its repository on the Hub, its licence as far as known, and the fields of a row's turns."""

    repository: str
    licence: str
    fields: str


UNCHECKED = "not checked; read its card before you publish a model"
OPEN_SETS = {
    "OpenHermes-2.5": OpenSet("teknium/OpenHermes-2.5", UNCHECKED, "conversations[from, value], system_prompt"),
    "The-Tome": OpenSet("arcee-ai/The-Tome", "mit", "conversations[from, value]"),
    "kyara-chinese-math-sft-s0-30K": OpenSet(
        "zake7749/kyara-chinese-math-sft-s0-30K", UNCHECKED, "messages[role, content]"
    ),
    "chinese-sft-stem-zh-hant": OpenSet("zake7749/chinese-sft-stem-zh-hant", UNCHECKED, "messages[role, content]"),
    "chinese-sft-stem-zh-hans": OpenSet("zake7749/chinese-sft-stem-zh-hans", UNCHECKED, "messages[role, content]"),
    "stem_zh_instruction": OpenSet("hfl/stem_zh_instruction", UNCHECKED, "instruction, input, output"),
    "Evol-Instruct-Chinese-GPT4": OpenSet(
        "FreedomIntelligence/Evol-Instruct-Chinese-GPT4", UNCHECKED, "conversations[from, value]"
    ),
    "Magpie-Qwen2-Pro-200K-Chinese": OpenSet(
        "Magpie-Align/Magpie-Qwen2-Pro-200K-Chinese", UNCHECKED, "conversations[from, value]"
    ),
}


def read_open_sets(entries: list[str], root: Path) -> tuple[list[Row], list[Row]]:
    """Read sets into (conversation rows, rejects). Holds all rows, some 2 kB each: good for 1,000,000 rows.

    An entry is a name of `OPEN_SETS` (read from the Hub), `NAME=PATH` for a local copy of one in its published layout,
    or the path of a file or folder of your own (.parquet, .jsonl, .json); `source` is the name, or the file's name.
    """
    rows, rejects = [], []
    for entry in entries:
        name, licence, items = _opened(entry, root)
        before = len(rows)
        for place, item in items:
            row, rejected = _row(item, name, licence, place)
            (rejects if rejected else rows).append(rejected or row)
        if len(rows) == before:
            why = rejects[-1]["detail"] if rejects else "it is empty"
            raise KyaraError(f"open set {entry} gives no conversation; the last row: {why}; rename its fields")
    return rows, rejects


def _opened(entry: str, root: Path) -> tuple[str, str, Iterator[tuple[str, Any]]]:
    name, _, path = entry.partition("=")
    if name in OPEN_SETS:
        known = OPEN_SETS[name]
        return name, known.licence, _files(root / path) if path else _hub(known.repository)
    if path:
        raise KyaraError(f"open set {name!r} is not known; known are {', '.join(OPEN_SETS)}; or give a path alone")
    own = Path(entry)
    return own.stem if own.suffix in ENDINGS else own.name, "", _files(root / entry)


def _row(item: Any, name: str, licence: str, place: str) -> tuple[Row, Row | None]:
    """The conversation row of an item, and its reject row if it is none."""
    try:
        if isinstance(item, Unreadable):
            raise item
        messages = messages_of(item)
    except Unreadable as error:
        body = {"id": content_id(place), "source": name, "item": None if item is error else item}
        return {}, reject(STEP, error.rule, body, f"{place}: {error}")
    spoken = "\n".join(message["content"] for message in messages if message["role"] != "system")
    file, _, line = place.rpartition(":")
    return {
        "id": content_id(json.dumps(messages, ensure_ascii=False), prefix="conv_", n=12),
        "messages": messages,
        "lang": language_of(spoken),
        "source": name,
        "parents": [],
        "call_ids": [],
        "meta": json.dumps({"file": file, "line": line} | ({"licence": licence} if licence else {})),
    }, None


def _files(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield (file:line, item) of a file, or of the data files of a folder in the order of their paths."""
    files = [path] if path.is_file() else sorted(filter(_is_data, path.rglob("*")))
    if not files or files[0].suffix not in ENDINGS:
        raise KyaraError(f"no open set {path}; give a name, or .parquet, .jsonl or .json files that exist")
    for file in files:
        read = {".parquet": iter_rows, ".jsonl": _lines, ".json": _json}[file.suffix]
        for number, item in enumerate(read(file), 1):
            yield f"{file.name}:{number}", item


def _is_data(path: Path) -> bool:
    return path.suffix in ENDINGS and path.name not in ABOUT and not any(part[0] == "." for part in path.parts[1:])


def _lines(file: Path) -> Iterator[Any]:
    """The values of JSON lines, blank ones as None; a line that is not JSON gives its `Unreadable`."""
    with open(file, "rb") as lines:
        for line in lines:
            try:
                yield json.loads(line.decode("utf-8-sig"))
            except ValueError as error:
                yield Unreadable("not_json", str(error).splitlines()[0] if line.strip() else "an empty line")


def _json(file: Path) -> Iterator[Any]:
    """The items of a JSON array, read piece by piece; a file that holds no array is read as JSON lines."""
    with open(file, encoding="utf-8-sig", errors="replace") as text:
        if text.read(CHUNK).lstrip()[:1] != "[":
            yield from _lines(file)
            return
        text.seek(0)
        yield from _array(text, file)


def _array(text: TextIO, file: Path) -> Iterator[Any]:
    decoder, number = json.JSONDecoder(), 0
    rest = text.read(CHUNK)
    at = rest.index("[") + 1
    while True:
        at = _GAP.match(rest, at).end()
        if rest[at : at + 1] == "]":
            return
        try:
            item, at = decoder.raw_decode(rest, at)
        except json.JSONDecodeError as error:
            more = text.read(CHUNK) if len(rest) - at < LONGEST else ""
            if not more:
                raise KyaraError(f"{file}: item {number + 1} is not JSON ({error.msg}); correct the file") from error
            rest, at = rest[at:] + more, 0
        else:
            number += 1
            yield item


def _hub(repository: str) -> Iterator[tuple[str, Any]]:
    """Yield (repository:number, row) of the training split, streamed; no code of the set is run."""
    number = 0
    try:
        from datasets import load_dataset

        for number, row in enumerate(load_dataset(repository, split="train", streaming=True), 1):
            yield f"{repository}:{number}", row
    except Exception as error:  # the library, its HTTP client and its file formats raise some twenty kinds
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise KyaraError(
            f"cannot read {repository} after {number} rows: {reason}; check the network, or give NAME=PATH of a copy"
        ) from error
