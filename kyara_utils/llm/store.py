"""Every response, stored the moment it arrives and keyed by its whole request: killed work is never paid for twice."""

import hashlib
import json
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

from kyara_utils.runs.errors import KyaraError

SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, request TEXT NOT NULL, response TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, seconds REAL NOT NULL, created REAL NOT NULL
)
"""


def call_key(model: str, path: str, body: dict[str, Any], sample: int = 0) -> str:
    """Hash of what decides a response: model identity, endpoint path, the whole rendered body, the sample's number."""
    canonical = json.dumps([model, path, body, sample], ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return "call_" + hashlib.blake2b(canonical.encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()


class Store:
    """SQLite in WAL mode: a commit survives `kill -9`; readers never wait. Failures are never stored as answers."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, check_same_thread=False, timeout=30)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute(SCHEMA)
        except (sqlite3.Error, OSError) as error:
            raise KyaraError(
                f"the response store {self.path} cannot be opened ({error}); free the disk, or move the file away"
            ) from error

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the stored raw response of a request, or None."""
        with self._lock:
            found = self._db.execute("SELECT response FROM calls WHERE key = ?", (key,)).fetchone()
        return json.loads(found[0]) if found else None

    def put(self, key: str, model: str, body: dict[str, Any], response: dict[str, Any], seconds: float) -> None:
        """Store a raw response; returns when it is safe."""
        usage = response.get("usage") or {}
        row = (
            key, model, json.dumps(body, ensure_ascii=False), json.dumps(response, ensure_ascii=False),
            usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0), seconds, time.time(),
        )  # fmt: skip
        try:
            with self._lock, self._db:
                self._db.execute("INSERT OR REPLACE INTO calls VALUES (?,?,?,?,?,?,?,?)", row)
        except sqlite3.Error as error:
            raise KyaraError(f"cannot store a response in {self.path} ({error}); free the disk, then rerun") from error

    def __len__(self) -> int:
        with self._lock:
            return self._db.execute("SELECT COUNT(*) FROM calls").fetchone()[0]

    def close(self) -> None:
        """Close the file."""
        self._db.close()
