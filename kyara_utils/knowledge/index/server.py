"""The index on a Qdrant server or cluster, through qdrant-client, with the interface of the embedded one.

Build goes into a collection named after its content, and an alias is switched to it at the end: readers see
the old index or the new one, never a half of each, and building the same content again changes nothing.
The tests run all of it but the snapshots through qdrant-client's local mode; nothing here has met a real server.
"""

import hashlib
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from kyara_utils.knowledge.embedders import Embedder
from kyara_utils.knowledge.index import edge
from kyara_utils.knowledge.index.edge import Scored, Where
from kyara_utils.knowledge.index.passages import Passages
from kyara_utils.knowledge.index.ranking import Index, Query, check_embedder
from kyara_utils.knowledge.index.records import BATCH, FILTERS, Record, checked, records
from kyara_utils.runs.errors import KyaraError


def connect(url: str, key_env: str = "QDRANT_API_KEY"):
    """Return a client for `url`; ":memory:" is qdrant-client's own small index, for tests."""
    from qdrant_client import QdrantClient

    if url == ":memory:":
        return QdrantClient(":memory:")
    # no check of versions: it asks from another thread, and warns where the first call gives one clear line
    return QdrantClient(url=url, api_key=os.environ.get(key_env), timeout=60, check_compatibility=False)


def split_url(url: str) -> tuple[str, str]:
    """Cut "http://host:6333/prefix/collection" into the server's address and the collection, by default "kyara"."""
    parts = urlsplit(url)
    prefix, _, name = parts.path.rstrip("/").rpartition("/")
    return urlunsplit((parts.scheme, parts.netloc, prefix, "", "")), name or "kyara"


class Layout(NamedTuple):
    """How a new collection lies on a cluster, and how many processes upload it; 0 leaves it to the server."""

    shards: int = 0
    replicas: int = 0
    parallel: int = 1


USUAL = Layout()


def layout_of(url: str) -> Layout:
    """Read "http://host:6333/collection?shards=6&replicas=2&parallel=4"; each of the three may be left out."""
    given = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    if wrong := [name for name, value in given.items() if name not in Layout._fields or not value.isdecimal()]:
        raise KyaraError(f"{url}: {wrong[0]} is no number of shards, replicas or parallel; write ?shards=6&replicas=2")
    return Layout(**{name: int(value) for name, value in given.items()})


class ServerIndex(Index):
    """One alias on a server. Make it with `build` or `open`. `facts` travel as the collection's metadata."""

    def __init__(self, client, name: str, embedder: Embedder, facts: dict[str, Any]) -> None:
        self._client, self.name, self.embedder = client, name, embedder
        self.average, self._graph = facts["average"], facts["graph"]

    @classmethod
    def build(cls, client, name: str, passages: Passages, embedder: Embedder, layout: Layout = USUAL) -> "ServerIndex":
        """Index passages under the alias `name`; `client` comes from `connect`.

        They are gone through twice, first for the name of the collection: all are checked before any is sent.
        """
        target = f"{name}-{_digest(passages, embedder)}"
        facts = {"embedder": embedder.name, "average": passages.average, "graph": passages.count > edge.GRAPH_ABOVE}
        try:
            if not (client.collection_exists(target) and client.count(target).count == passages.count):
                _create(client, target, embedder.dim, facts, layout)
                _upload(client, target, records(passages.batches(), passages.average), layout.parallel)
            _graph(client, target, facts["graph"])
            _switch_alias(client, name, target)
        except _server_errors() as error:
            raise _unreachable(name, error) from error
        return cls.open(client, name, embedder)

    @classmethod
    def open(cls, client, name: str, embedder: Embedder) -> "ServerIndex":
        """Open a built index. Raises `KyaraError` if it is missing or of another embedder."""
        try:
            if not client.collection_exists(name):
                raise KyaraError(f"the server has no collection {name}; build it with 01_corpus_indexing")
            config = client.get_collection(name).config
        except _server_errors() as error:
            raise _unreachable(name, error) from error
        facts = config.metadata or {}
        if not {"embedder", "average", "graph"} <= set(facts):
            raise KyaraError(f"the collection {name} was not built by this project; choose another name or build it")
        check_embedder(name, facts | {"dim": config.params.vectors["dense"].size}, embedder)
        return cls(client, name, embedder, facts)

    def snapshot(self) -> str:
        """Let the server write a snapshot; return its name, which the server lists and serves for download."""
        return self._ask(lambda client: client.create_snapshot(self._collection(), wait=True)).name

    @classmethod
    def restore(cls, client, name: str, location: str, embedder: Embedder) -> "ServerIndex":
        """Make the collection `name` from a snapshot at a URL, or at a file:// path on the server."""
        try:
            client.recover_snapshot(name, location=location, wait=True)
        except _server_errors() as error:
            raise _unreachable(name, error) from error
        return cls.open(client, name, embedder)

    def __len__(self) -> int:
        return self._ask(lambda client: client.count(self.name).count)

    def close(self) -> None:
        self._client.close()

    def _collection(self) -> str:
        found = {a.alias_name: a.collection_name for a in self._client.get_aliases().aliases}
        return found.get(self.name, self.name)

    def _rank(self, queries: Sequence[Query], limit: int, where: Where) -> list[Scored]:
        requests = [_request(query, limit, where, self._graph) for query in queries]
        answers = self._ask(lambda client: client.query_batch_points(self.name, requests))
        return [[(point.score, point.id) for point in answer.points] for answer in answers]

    def _payloads(self, ids: Sequence[int]) -> dict[int, dict[str, str]]:
        found = self._ask(lambda client: client.retrieve(self.name, list(ids), with_payload=True))
        return {point.id: point.payload for point in found}

    def _write(self, batches: Iterator[list[Record]]) -> None:
        self._ask(lambda client: _upload(client, self.name, batches))

    def _delete(self, where: Where, keep: Sequence[int]) -> int:
        from qdrant_client import models

        chosen = _condition(where, keep)
        found = self._ask(lambda client: client.count(self.name, count_filter=chosen).count)
        if found:
            selector = models.FilterSelector(filter=chosen)
            self._ask(lambda client: client.delete(self.name, selector, wait=True))
        return found

    def _ask(self, action):
        try:
            return action(self._client)
        except _server_errors() as error:
            raise _unreachable(self.name, error) from error


def _create(client, target: str, dim: int, facts: dict[str, Any], layout: Layout) -> None:
    """An empty collection; a graph is put off (m = 0) until the points are in, then `_graph` asks for it."""
    from qdrant_client import models

    if client.collection_exists(target):
        client.delete_collection(target)
    int8 = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
    client.create_collection(
        target,
        vectors_config={"dense": models.VectorParams(size=dim, distance=models.Distance.COSINE)},
        sparse_vectors_config={"bm25": models.SparseVectorParams(modifier=models.Modifier.IDF)},
        hnsw_config=models.HnswConfigDiff(m=0),
        quantization_config=models.ScalarQuantization(scalar=int8) if facts["graph"] else None,
        metadata=facts,
        shard_number=layout.shards or None,
        replication_factor=layout.replicas or None,
    )
    with warnings.catch_warnings():  # the local mode says that it needs no payload index
        warnings.simplefilter("ignore", UserWarning)
        for field in FILTERS:
            client.create_payload_index(target, field, models.PayloadSchemaType.KEYWORD)


def _upload(client, target: str, batches: Iterator[list[Record]], parallel: int = 1) -> None:
    points = (_point(record) for record in chain.from_iterable(batches))
    client.upload_points(target, points, batch_size=BATCH, max_retries=3, wait=True, parallel=max(1, parallel))


def _graph(client, target: str, wanted: bool) -> None:
    from qdrant_client import models

    if wanted:
        client.update_collection(target, hnsw_config=models.HnswConfigDiff(**edge.HNSW))


def _switch_alias(client, name: str, target: str) -> None:
    from qdrant_client import models

    old = [a.collection_name for a in client.get_aliases().aliases if a.alias_name == name]
    drop = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=name))
    alias = models.CreateAlias(collection_name=target, alias_name=name)
    client.update_collection_aliases([*([drop] if old else []), models.CreateAliasOperation(create_alias=alias)])
    for collection in set(old) - {target}:
        client.delete_collection(collection)


def _point(record: Record):
    from qdrant_client import models

    sparse = models.SparseVector(indices=record.indices, values=record.values)
    vector = {"dense": record.dense, "bm25": sparse}
    return models.PointStruct(id=record.id, vector=vector, payload=record.payload)


def _request(query: Query, limit: int, where: Where, graph: bool):
    from qdrant_client import models

    using, vector = query
    if using == "bm25":
        vector = models.SparseVector(indices=vector[0], values=vector[1])
    rescored = models.QuantizationSearchParams(rescore=True, oversampling=edge.OVERSAMPLING)
    params = models.SearchParams(hnsw_ef=edge.EF, quantization=rescored) if graph else models.SearchParams(exact=True)
    return models.QueryRequest(query=vector, using=using, limit=limit, filter=_condition(where), params=params)


def _condition(where: Where, keep: Iterable[int] = ()):
    """The same filter as `edge.condition`, in the client's terms."""
    from qdrant_client import models

    matches = {field: models.MatchAny(any=edge.values(found)) for field, found in where.items()}
    must = [models.FieldCondition(key=field, match=match) for field, match in matches.items()]
    must_not = [models.HasIdCondition(has_id=list(keep))] if keep else None
    return models.Filter(must=must, must_not=must_not) if must or must_not else None


def _digest(passages: Passages, embedder: Embedder) -> str:
    digest = hashlib.blake2b(embedder.name.encode(), digest_size=6)
    for chunks, vectors in checked(passages.batches(), embedder):
        for chunk, vector in zip(chunks, vectors, strict=True):
            digest.update(f"{chunk.id}\x1f{chunk.path}\x1e".encode() + vector.tobytes())
    return digest.hexdigest()


def _server_errors() -> tuple[type[Exception], ...]:
    from qdrant_client.http.exceptions import ApiException

    return (ApiException,)


def _unreachable(name: str, error: Exception) -> KyaraError:
    return KyaraError(f"the Qdrant server failed on {name}: {error}; check its address, key and disk")
