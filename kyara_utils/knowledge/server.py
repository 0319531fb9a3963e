"""The index on a Qdrant server or cluster, through qdrant-client, with the interface of the embedded one.

Build goes into a collection named after its content, and an alias is switched to it at the end: readers see
the old index or the new one, never a half of each, and building the same content again changes nothing.
"""

import hashlib
import os
from collections.abc import Sequence

import numpy as np

from kyara_utils.knowledge.chunking import Chunk
from kyara_utils.knowledge.embedders import Embedder
from kyara_utils.knowledge.index import Index, Ranking, by_score, check_embedder
from kyara_utils.knowledge.records import records
from kyara_utils.runs.errors import KyaraError


def connect(url: str, key_env: str = "QDRANT_API_KEY"):
    """Return a client for `url`; ":memory:" is qdrant-client's own small index, for tests."""
    from qdrant_client import QdrantClient

    if url == ":memory:":
        return QdrantClient(":memory:")
    return QdrantClient(url=url, api_key=os.environ.get(key_env), timeout=60)


class ServerIndex(Index):
    """One alias on a server. Make it with `build` or `open`."""

    def __init__(self, client, name: str, embedder: Embedder) -> None:
        self._client, self.name, self.embedder = client, name, embedder

    @classmethod
    def build(
        cls, client, name: str, chunks: Sequence[Chunk], vectors: np.ndarray, embedder: Embedder
    ) -> "ServerIndex":
        """Index the chunks under the alias `name`; `client` comes from `connect`."""
        from qdrant_client import models

        target = f"{name}-{_digest(chunks, vectors, embedder)}"
        try:
            if not (client.collection_exists(target) and client.count(target).count == len(chunks)):
                _upload(client, target, chunks, vectors, embedder)
            old = [a.collection_name for a in client.get_aliases().aliases if a.alias_name == name]
            drop = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=name))
            alias = models.CreateAlias(collection_name=target, alias_name=name)
            switch = [drop] if old else []
            client.update_collection_aliases([*switch, models.CreateAliasOperation(create_alias=alias)])
            for collection in set(old) - {target}:
                client.delete_collection(collection)
        except _server_errors() as error:
            raise _unreachable(name, error) from error
        return cls.open(client, name, embedder)

    @classmethod
    def open(cls, client, name: str, embedder: Embedder) -> "ServerIndex":
        """Open a built index. Raises `KyaraError` if it is missing or of another dimension."""
        try:
            if not client.collection_exists(name):
                raise KyaraError(f"the server has no collection {name}; build it with 01_corpus_indexing")
            dim = client.get_collection(name).config.params.vectors["dense"].size
        except _server_errors() as error:
            raise _unreachable(name, error) from error
        check_embedder(name, {"embedder": embedder.name, "dim": dim}, embedder)
        return cls(client, name, embedder)

    def __len__(self) -> int:
        return self._client.count(self.name).count

    def close(self) -> None:
        self._client.close()

    def _rank_dense(self, vector: list[float], limit: int) -> Ranking:
        return self._rank(vector, "dense", limit)

    def _rank_sparse(self, indices: list[int], values: list[float], limit: int) -> Ranking:
        from qdrant_client import models

        return self._rank(models.SparseVector(indices=indices, values=values), "bm25", limit)

    def _rank(self, vector, using: str, limit: int) -> Ranking:
        try:
            found = self._client.query_points(self.name, query=vector, using=using, limit=limit, with_payload=True)
        except _server_errors() as error:
            raise _unreachable(self.name, error) from error
        return by_score(found.points)


def _upload(client, target: str, chunks: Sequence[Chunk], vectors: np.ndarray, embedder: Embedder) -> None:
    from qdrant_client import models

    if client.collection_exists(target):
        client.delete_collection(target)
    client.create_collection(
        target,
        vectors_config={"dense": models.VectorParams(size=embedder.dim, distance=models.Distance.COSINE)},
        sparse_vectors_config={"bm25": models.SparseVectorParams(modifier=models.Modifier.IDF)},
    )
    for batch in records(chunks, vectors, embedder):
        client.upload_points(target, [_point(r) for r in batch], batch_size=len(batch), wait=True)


def _point(record):
    from qdrant_client import models

    sparse = models.SparseVector(indices=record.indices, values=record.values)
    vector = {"dense": record.dense, "bm25": sparse}
    return models.PointStruct(id=record.id, vector=vector, payload=record.payload)


def _digest(chunks: Sequence[Chunk], vectors: np.ndarray, embedder: Embedder) -> str:
    digest = hashlib.blake2b(embedder.name.encode(), digest_size=6)
    for chunk in chunks:
        digest.update(chunk.id.encode())
    digest.update(np.ascontiguousarray(vectors).tobytes())
    return digest.hexdigest()


def _server_errors() -> tuple[type[Exception], ...]:
    from qdrant_client.http.exceptions import ApiException

    return (ApiException,)


def _unreachable(name: str, error: Exception) -> KyaraError:
    return KyaraError(f"the Qdrant server failed on {name}: {error}; check its address, key and disk")
