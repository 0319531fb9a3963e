"""Every call, durable the moment it is answered and keyed by its whole request: nothing is paid for twice.

SQLite in WAL mode with group commit: answers that arrive within milliseconds share one transaction, which is what
makes thousands of durable answers a second possible. A commit survives `kill -9`; after a power cut the last ones
may be asked again. Failures are kept apart and never serve as answers.
"""

import asyncio
import hashlib
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from kyara_utils.llm.protocol import Response
from kyara_utils.runs.errors import KyaraError

VERSION = 2  # of the layout and of the keys; a file of another version is refused, never misread
GROUP_SECONDS = 0.001  # answers that arrive within this time are committed together
USES = 1000  # notes of use that are written together
Span = tuple[float, float]  # from, to, in seconds since 1970
COLUMNS = "key, model, request, response, prompt_tokens, completion_tokens, seconds, attempts, created"
LAYOUT = """
CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, request TEXT NOT NULL, response TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
    seconds REAL NOT NULL, attempts INTEGER NOT NULL, created REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS failures (
    key TEXT NOT NULL, model TEXT NOT NULL, request TEXT NOT NULL, error TEXT NOT NULL,
    attempts INTEGER NOT NULL, created REAL NOT NULL, raw TEXT NOT NULL DEFAULT '', PRIMARY KEY (key, error)
);
CREATE TABLE IF NOT EXISTS uses (key TEXT PRIMARY KEY, stage TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
"""


class Call(NamedTuple):
    """A row of `calls`: request and response are JSON as sent and as received; seconds of the last attempt."""

    key: str
    model: str
    request: str
    response: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    attempts: int
    created: float


def call_key(identity: str, path: str, body: bytes, sample: int = 0, seed: int = 0) -> str:
    """Hash of what decides a response: model, path, the whole rendered body, seed, the sample's number.

    The address is no part of it: the same model behind another one, or a replica, replays.
    """
    digest = hashlib.blake2b(digest_size=10)
    for part in (identity.encode(), path.encode(), body, b"%d %d" % (sample, seed)):
        digest.update(b"%d:" % len(part))  # lengths first, so that no two requests run together to the same bytes
        digest.update(part)
    return "call_" + digest.hexdigest()


@dataclass(slots=True)
class Reply:
    """What came of a body: the raw answer, its JSON and what was read, or the last error; `seconds` of that attempt."""

    raw: bytes = b""
    parsed: dict[str, Any] = field(default_factory=dict)
    answer: Response | None = None
    error: str = ""
    attempts: int = 0
    seconds: float = 0.0


def call_of(key: str, model: str, body: bytes, reply: Reply) -> Call:
    """Make the row of an answered call; token counts come from the `usage` of its body."""
    return Call(
        key, model, body.decode(), reply.raw.decode("utf-8", "replace"), *tokens_of(reply.parsed),
        round(reply.seconds, 4), reply.attempts, round(time.time(), 3),
    )  # fmt: skip


def tokens_of(raw: Any) -> tuple[int, int]:
    """(prompt, completion) tokens of a body; 0 where its server does not count. Reasoning is part of the second."""
    usage = raw.get("usage") if isinstance(raw, dict) else None
    usage = usage if isinstance(usage, dict) else {}
    return usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0


class Ledger:
    """The file of calls. One process writes at a time for long; readers never wait.

    alone: no other process opens the file meanwhile, so it may lie on a file system that several machines share
    (https://www.sqlite.org/wal.html, section 8), and every commit reaches the disk: it survives the machine, too.
    Raises `KyaraError` for a file that another process holds so.
    """

    def __init__(self, path: Path, alone: bool = False):
        self.path = Path(path)
        self._lock = threading.Lock()
        self._group: list[tuple[Call, asyncio.Future]] = []
        self._uses: list[tuple[str, str, float]] = []
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if alone:
                self.path.touch()
            file = self.path.stat().st_ino if alone else 0
            self._db = sqlite3.connect(self.path, check_same_thread=False, timeout=5 if alone else 30)
            if alone:
                self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute(f"PRAGMA synchronous={'FULL' if alone else 'NORMAL'}")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            tables = self._db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
            if tables and version != VERSION:
                raise KyaraError(f"{self.path} is a ledger of version {version}, not {VERSION}; move it away and rerun")
            self._db.executescript(LAYOUT + f"PRAGMA user_version={VERSION};")
            if "raw" not in [row[1] for row in self._db.execute("PRAGMA table_info(failures)")]:
                self._db.execute("ALTER TABLE failures ADD COLUMN raw TEXT NOT NULL DEFAULT ''")
            if alone and self.path.stat().st_ino != file:  # moved meanwhile: nobody would read what is written to it
                raise OSError("it was taken in meanwhile")
        except (sqlite3.Error, OSError) as error:
            raise KyaraError(
                f"the call ledger {self.path} cannot be opened ({error}); free the disk, or move the file away"
            ) from error

    def move(self, path: Path) -> None:
        """Give the file, open `alone`, another name: from then on whoever opens the old one begins a new ledger."""
        try:
            self._db.execute("PRAGMA journal_mode=MEMORY")  # folds in the log: a file beside it would keep its name
            self.path = self.path.rename(path)
        except (sqlite3.Error, OSError) as error:
            raise KyaraError(f"cannot move the call ledger {self.path} ({error}); free the disk, then rerun") from error

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the raw response of a call, or None."""
        with self._lock:
            found = self._db.execute("SELECT response FROM calls WHERE key = ?", (key,)).fetchone()
        return orjson.loads(found[0]) if found else None

    def put(self, call: Call) -> asyncio.Future:
        """Add a call from a running loop; the future is done when the call is safe. Raises `KyaraError` through it."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        if not self._group:
            loop.call_later(GROUP_SECONDS, self._commit_group)
        self._group.append((call, future))
        return future

    def _commit_group(self) -> None:
        group, self._group = self._group, []
        try:
            self.add(call for call, _ in group)
        except KyaraError as error:
            for _, future in group:
                if not future.done():
                    future.set_exception(error)
            return
        for _, future in group:
            if not future.done():
                future.set_result(None)

    def add(self, calls: Iterable[Call]) -> None:
        """Store calls in one transaction; one that is there already stays as it is."""
        places = ",".join("?" * len(Call._fields))
        self._write(f"INSERT OR IGNORE INTO calls ({COLUMNS}) VALUES ({places})", calls)

    def fail(self, key: str, model: str, body: bytes, error: str, attempts: int, raw: bytes = b"") -> None:
        """Record a call that failed for good, with the body that could not be read; the next run asks it again."""
        row = (key, model, body.decode(), error, attempts, round(time.time(), 3), raw.decode("utf-8", "replace"))
        self.add_failures([row])

    def add_failures(self, rows: Iterable[tuple]) -> None:
        """Record failures as `failures` gives them."""
        self._write("INSERT OR REPLACE INTO failures VALUES (?,?,?,?,?,?,?)", rows)

    def failures(self) -> list[tuple]:
        """All calls that failed for good: (key, model, request, error, attempts, created, raw)."""
        return self._db.execute("SELECT * FROM failures ORDER BY key, error").fetchall()

    def disown(self, key: str, error: str) -> None:
        """Turn a stored call that cannot be read into a failure, so that it is asked again."""
        moved = "SELECT key, model, request, ?, attempts, created, response FROM calls WHERE key = ?"
        self._write(f"INSERT OR REPLACE INTO failures {moved}", [(error, key)])
        self._write("DELETE FROM calls WHERE key = ?", [(key,)])

    def _write(self, statement: str, rows: Iterable[tuple]) -> None:
        try:
            with self._lock, self._db:
                self._db.executemany(statement, rows)
        except sqlite3.Error as error:
            raise KyaraError(f"cannot store a call in {self.path} ({error}); free the disk, then rerun") from error

    def use(self, keys: Iterable[str], stage: str) -> None:
        """Note that a stage took these answers just now, stored or new: what a run needed is what is worth shipping."""
        self._uses += [(key, stage, round(time.time(), 3)) for key in keys]
        if len(self._uses) >= USES:
            self._write_uses()

    def _write_uses(self) -> None:
        uses, self._uses = self._uses, []
        self._write("INSERT OR REPLACE INTO uses VALUES (?,?,?)", uses)

    def used(self, times: Iterable[Span]) -> Iterator[tuple[Call, str]]:
        """Yield (call, stage) of the calls whose last use lies in one of these times, by stage and request: alike
        requests side by side compress well."""
        found = f"SELECT {COLUMNS}, stage FROM uses JOIN calls USING (key) WHERE {_within(times)}"
        for *row, stage in self._db.execute(f"{found} ORDER BY stage, request, key"):
            yield Call(*row), stage

    def lost(self, times: Iterable[Span]) -> int:
        """Number of calls used in one of these times that have no answer."""
        missing = f"SELECT COUNT(*) FROM uses WHERE ({_within(times)}) AND key NOT IN (SELECT key FROM calls)"
        return self._db.execute(missing).fetchone()[0]

    def calls(self) -> Iterator[Call]:
        """All calls in the order of their keys, so that an export is the same whatever the order of arrival."""
        for row in self._db.execute(f"SELECT {COLUMNS} FROM calls ORDER BY key"):
            yield Call(*row)

    def totals(self) -> list[dict[str, Any]]:
        """Per model: calls, prompt_tokens, completion_tokens, seconds, failures."""
        sums = "COUNT(*), SUM(prompt_tokens), SUM(completion_tokens), SUM(seconds)"
        found = self._db.execute(f"SELECT model, {sums} FROM calls GROUP BY model ORDER BY model").fetchall()
        failed = dict(self._db.execute("SELECT model, COUNT(*) FROM failures GROUP BY model"))
        names = ("model", "calls", "prompt_tokens", "completion_tokens", "seconds")
        rows = [dict(zip(names, row, strict=True)) | {"failures": failed.pop(row[0], 0)} for row in found]
        return rows + [dict.fromkeys(names, 0) | {"model": model, "failures": n} for model, n in failed.items()]

    def __len__(self) -> int:
        with self._lock:
            return self._db.execute("SELECT COUNT(*) FROM calls").fetchone()[0]

    def close(self) -> None:
        """Commit what waits and close the file."""
        if self._group:
            self._commit_group()
        if self._uses:
            self._write_uses()
        self._db.close()


def _within(times: Iterable[Span]) -> str:
    return " OR ".join(f"at BETWEEN {begun:.3f} AND {ended:.3f}" for begun, ended in times) or "0"
