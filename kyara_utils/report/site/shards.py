"""Data for pages that are opened from a disk: a browser may load a script beside a page there, but fetch nothing.

So each shard is a script that hands over gzip in base64; `assets/rows.js` unpacks it. 100,000 rows' index takes a few
megabytes, and the rest is loaded when a row is opened.
"""

import base64
import gzip
import html
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import orjson

from kyara_utils.runs.files import replace_text

LEVEL = 6  # of gzip: 9 takes three times as long for one per cent


def write_shard(folder: Path, name: str, content: Any) -> None:
    """Write JSON-like `content` as `folder/name.js`; equal content gives equal bytes."""
    packed = base64.b64encode(gzip.compress(orjson.dumps(content), LEVEL, mtime=0)).decode("ascii")
    replace_text(folder / f"{name}.js", f'kyara.take("{name}","{packed}");\n')


def read_shard(path: Path) -> Any:
    """What `write_shard` wrote: for tests and for people with a Python at hand."""
    packed = path.read_text(encoding="ascii").split('"')[3]
    return orjson.loads(gzip.decompress(base64.b64decode(packed)))


class ShardWriter:
    """Writes items as shards `stem-0`, `stem-1`, … of `size` items each, one shard in memory at a time."""

    def __init__(self, folder: Path, stem: str, size: int) -> None:
        self.folder, self.stem, self.size, self.count, self._items = folder, stem, size, 0, []

    def add(self, item: Any) -> None:
        """Take the next item; item n is in shard n // size, at place n % size."""
        self._items.append(item)
        self.count += 1
        if len(self._items) == self.size:
            self.close()

    def close(self) -> None:
        """Write what is left; call it once after the last item."""
        if self._items:
            write_shard(self.folder, f"{self.stem}-{(self.count - 1) // self.size}", self._items)
            self._items = []


def write_buckets(folder: Path, stem: str, items: Iterable[tuple[str, Any]], buckets: int) -> None:
    """Write (key, value) as {key: value} in `buckets` shards; `assets/rows.js` finds them by the same rule."""
    found: list[dict[str, Any]] = [{} for _ in range(buckets)]
    for key, value in items:
        found[bucket_of(key, buckets)][key] = value
    for number, bucket in enumerate(found):
        write_shard(folder, f"{stem}-{number}", bucket)


def bucket_of(key: str, buckets: int) -> int:
    """The bucket of a key of ASCII: a hash that takes one line in either language."""
    state = 0
    for byte in key.encode():
        state = (31 * state + byte) % 65_521
    return state % buckets


def codes_of(values: list[str]) -> dict[str, Any]:
    """A column of few different values as {values, codes}, the most frequent value first."""
    names = [name for name, _ in Counter(values).most_common()]
    places = {name: place for place, name in enumerate(names)}
    return {"values": names, "codes": [places[value] for value in values]}


def linked(text: str, pattern: Any, link: Callable[[str], str]) -> str:
    """Escaped text in which each match of `pattern` is replaced by `link` of it; nothing of the text is markup."""
    parts, end = [], 0
    for found in pattern.finditer(text):
        parts += [html.escape(text[end : found.start()]), link(found.group())]
        end = found.end()
    return "".join([*parts, html.escape(text[end:])])
