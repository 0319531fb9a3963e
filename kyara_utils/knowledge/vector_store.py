"""Vectors on disk: embedding is the slow part of step 01 on a CPU, so each is computed once per model and text.

A vector is stored the moment its batch is done, so a killed run resumes and a changed corpus costs only its changes.
"""

import hashlib
import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from kyara_utils.knowledge.embedders import Embedder
from kyara_utils.runs.engine import map_batches
from kyara_utils.runs.errors import KyaraError

BATCH = 16  # texts between two commits, unless the embedder says otherwise: what a killed run loses at most
SENT = 4  # times so many texts are what a worker is sent
PART = 4096  # texts whose vectors are looked up at once
EVERY = 5.0  # seconds between two lines of progress
SCHEMA = "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID"


class VectorStore:
    """One file; several processes may use it at once (write-ahead log). Use as a context manager."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=60)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute(SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise KyaraError(
                f"cannot open the vector store {self.path}: {error}; delete the file, vectors are computed again"
            ) from error

    def get(self, model: str, text: str) -> np.ndarray | None:
        """Return the stored vector, [dim] float32, or None."""
        row = self._db.execute("SELECT vector FROM vectors WHERE key = ?", (_key(model, text),)).fetchone()
        return None if row is None else np.frombuffer(row[0], dtype="<f4")

    def put(self, model: str, texts: list[str], vectors: np.ndarray) -> None:
        """Store one vector a text, in one transaction."""
        rows = [(_key(model, t), v.astype("<f4").tobytes()) for t, v in zip(texts, vectors, strict=True)]
        try:
            with self._db:
                self._db.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
        except sqlite3.Error as error:
            raise KyaraError(f"cannot write {self.path}: {error}; free the disk, then rerun") from error

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> "VectorStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _key(model: str, text: str) -> bytes:
    return hashlib.blake2b(f"{model}\x1f{text}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


def embed_passages(
    embedder: Embedder, store: VectorStore, texts: list[str], progress: bool = True, engine: str = "local"
) -> np.ndarray:
    """Return float32 [len(texts), dim]; only texts the store lacks are computed, and stored batch by batch.

    All vectors are held: good for 1,000,000 texts; an index takes any number through `stored_passages`.
    engine: who computes them, see `runs.engine`.
    """
    if engine != "local":
        parts = (texts[start : start + PART] for start in range(0, len(texts), PART))
        deque(computed(embedder, store, parts, engine), maxlen=0)
    matrix = np.empty((len(texts), embedder.dim), np.float32)
    with tqdm(total=len(texts), desc="embed", mininterval=EVERY, disable=not progress, ascii=True) as bar:
        for start in range(0, len(texts), PART):
            matrix[start : start + PART] = embed_batch(embedder, store, texts[start : start + PART], bar)
    return matrix


def computed(embedder: Embedder, store: VectorStore, batches: Iterable[list[str]], engine: str) -> Iterator[list[str]]:
    """Yield the batches again, in order, once the store has their vectors; what it lacks is computed by `engine`."""
    held: deque[list[Any]] = deque()  # [batch, its parts that are still to come]

    def lacking() -> Iterator[list[str]]:
        for texts in batches:
            missing = [text for text in dict.fromkeys(texts) if store.get(embedder.name, text) is None]
            parts = list(_portions(embedder, missing, SENT))
            held.append([texts, len(parts)])
            yield from parts

    for texts, vectors in map_batches(Embedding(embedder), lacking(), engine):
        while not held[0][1]:
            yield held.popleft()[0]
        store.put(embedder.name, texts, vectors)
        held[0][1] -= 1
    yield from (texts for texts, _ in held)


class Embedding:
    """What a worker does: texts → (texts, vectors), in the portions in which one process computes them."""

    def __init__(self, embedder: Embedder):
        self.embedder = embedder
        self.gpu = getattr(embedder, "gpu", False)

    def __call__(self, texts: list[str]) -> tuple[list[str], np.ndarray]:
        parts = [_finite(self.embedder.passages(part), self.embedder) for part in _portions(self.embedder, texts)]
        return texts, np.concatenate(parts)


def _portions(embedder: Embedder, texts: list[str], times: int = 1) -> Iterator[list[str]]:
    size = times * getattr(embedder, "batch", BATCH)
    yield from (texts[start : start + size] for start in range(0, len(texts), size))


def embed_batch(embedder: Embedder, store: VectorStore, texts: list[str], bar: tqdm) -> np.ndarray:
    """Do the work of `embed_passages` for one batch of many, whose progress `bar` shows."""
    found = {text: store.get(embedder.name, text) for text in texts}
    missing = [text for text, vector in found.items() if vector is None]
    bar.update(len(texts) - len(missing))
    for batch in _portions(embedder, missing):
        vectors = _finite(embedder.passages(batch), embedder)
        store.put(embedder.name, batch, vectors)
        found.update(zip(batch, vectors, strict=True))
        bar.update(len(batch))
    matrix = np.zeros((len(texts), embedder.dim), dtype=np.float32)
    for row, text in zip(matrix, texts, strict=True):
        row[:] = _checked(found[text], embedder, store)
    return matrix


def _checked(vector: np.ndarray, embedder: Embedder, store: VectorStore) -> np.ndarray:
    if len(vector) != embedder.dim:
        raise KyaraError(
            f"{store.path} holds {len(vector)} dimensions for {embedder.name}, which gives "
            f"{embedder.dim}; delete the file, vectors are computed again"
        )
    return vector


def _finite(vectors: np.ndarray, embedder: Embedder) -> np.ndarray:
    if not np.isfinite(vectors).all():
        raise KyaraError(f"{embedder.name} gave a vector that is not finite; check the model, nothing of it is stored")
    return vectors
