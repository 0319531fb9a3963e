"""Files of published sets: by name from the Hub, from a local copy in the published layout, or a file of one's own.

For conversations (`curation.open_sets`) and preferences (`preference.open_preferences`) alike: what an entry of a
recipe's list names, and its items one by one with the place of each.
"""

import gzip
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TextIO

from kyara_utils.curation.turns import SYSTEM_KEYS, Unreadable
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.params import nearest
from kyara_utils.runs.tables import Row, content_id, iter_rows, reject

ENDINGS = (".parquet", ".jsonl", ".jsonl.gz", ".json")
CHUNK = 1 << 20  # characters read at once of a JSON array
LONGEST = 1 << 26  # characters of one item of a JSON array
ABOUT = ("dataset_info.json", "dataset_infos.json")  # of a set, without rows of it
UNCHECKED = "not checked; read its card before you publish a model"
SHOWN = 8  # columns named at most in a message
_FIELD = re.compile(r"(\w+)(?:\[[^\]]*\])?")  # of a set's fields, without those of its turns
_GAP = re.compile(r"[\s,]*")
_TRAIN = re.compile(r"(?:^|[^a-z])train(?:ing)?(?:[^a-z]|$)", re.I)


@dataclass(frozen=True)
class PublishedSet:
    """A published set: its repository on the Hub, its licence as far as known, and the fields of a row."""

    repository: str
    licence: str
    fields: str


def opened(entry: str, root: Path, known: Mapping[str, PublishedSet]) -> tuple[str, str, Iterator[tuple[str, Any]]]:
    """Return (name, licence or "", items as (place, item)) of an entry; a place is `file:number` from 1.

    An entry is a name of `known` (read from the Hub), `NAME=PATH` for a local copy of one in its published layout, or
    the path of a file or folder of your own, by whose name it goes. An item that is not JSON is an `Unreadable`.
    """
    name, _, path = entry.partition("=")
    if name in known:
        items = _files(root / path) if path else _hub(known[name].repository)
        return name, known[name].licence, _as_published(name, known[name].fields, items)
    if path:
        raise KyaraError(f"open set {name!r} is not known; {nearest(name, known)}; or give a path alone")
    if not (root / entry).exists():
        raise KyaraError(f"no open set {entry}, neither a file or folder nor a name; {nearest(entry, known)}")
    own = Path(entry)
    ending = next((ending for ending in ENDINGS if own.name.endswith(ending)), "")
    return own.name.removesuffix(ending), "", _files(root / entry)


def _as_published(name: str, fields: str, items: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Refuse another layout under a published name: the rows would be misread, or all be rejects."""
    for number, (place, item) in enumerate(items):
        if not number and isinstance(item, dict):
            _check_fields(f"{place}: {name}", _FIELD.findall(fields), list(map(str, item)))
        yield place, item


def _check_fields(where: str, fields: list[str], found: list[str]) -> None:
    for field in fields:
        if field not in (*SYSTEM_KEYS, *found):
            near = get_close_matches(field, found, 1)
            seen = f"nearest is {near[0]}" if near else f"found: {', '.join(found[:SHOWN])}"
            raise KyaraError(f"{where} has no field {field} ({seen}); give its published layout, or the path alone")


def nothing_read(entry: str, what: str, last: Row | None, fields: Iterable[str]) -> KyaraError:
    """The error of a set that gives no `what`: its `last` reject, and which columns look like one of `fields`."""
    item, fields = json.loads(last["row"])["item"] if last else None, list(fields)
    near = {column: get_close_matches(column, fields, 1) for column in (item if isinstance(item, dict) else ())}
    meant = [f"{column} to {names[0]}" for column, names in near.items() if names and column not in fields]
    why = last["detail"] if last else "it is empty"
    return KyaraError(
        f"open set {entry} gives no {what}; the last row: {why}; "
        f"rename {', '.join(meant) or 'its fields'}, or leave the set out"
    )


def _files(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield (file:line, item) of a file, or of the data files of a folder in the order of their paths.

    Of a folder with files of several splits only the training files count, as when it is read from the Hub.
    """
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if _is_data(file.relative_to(path)))
    files = [file for file in files if _TRAIN.search(file.name)] or files
    if not files or not files[0].name.endswith(ENDINGS):
        raise KyaraError(f"no open set in {path}; give a name, or .parquet, .jsonl(.gz) or .json files that exist")
    for file in files:
        read = {".parquet": iter_rows, ".json": _json}.get(file.suffix, _lines)
        for number, item in enumerate(read(file), 1):
            yield f"{_place(file, path)}:{number}", item


def _place(file: Path, path: Path) -> str:
    """The file as a reader of rejects finds it: sets have a train.jsonl in each of several folders."""
    return file.name if file == path else file.relative_to(path).as_posix()


def _is_data(path: Path) -> bool:
    return path.name.endswith(ENDINGS) and path.name not in ABOUT and not any(part[0] == "." for part in path.parts)


def _lines(file: Path) -> Iterator[Any]:
    """The values of JSON lines, blank ones as None; a line that is not JSON gives its `Unreadable`."""
    with (gzip.open if file.suffix == ".gz" else open)(file, "rb") as lines:
        for line in lines:
            try:
                yield json.loads(line.decode("utf-8-sig"))
            except (ValueError, RecursionError) as error:
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


def read_item(read: Callable[[Any], Any], item: Any, step: str, name: str, place: str) -> tuple[Any, Row | None]:
    """Return (what `read` makes of an item, None), or (None, the reject row) where it raises `Unreadable`."""
    try:
        if isinstance(item, Unreadable):
            raise item
        return read(item), None
    except Unreadable as error:
        row = {"id": content_id(place), "source": name, "item": None if item is error else item}
        return None, reject(step, error.rule, row, f"{place}: {error}")


def origin(place: str, licence: str) -> Row:
    """File and line of an item, and its set's licence where one is known."""
    file, _, line = place.rpartition(":")
    return {"file": file, "line": line} | ({"licence": licence} if licence else {})


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
