"""Qdrant Edge, the engine in process: its configuration, points, filters and errors, as `index.EdgeIndex` needs them.

The graph is deferred by nature: upserts go to a plain segment that is scanned, and only optimising builds HNSW. The
write-ahead log stays on, because it is what makes a killed upsert whole again and what locks the folder.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kyara_utils.knowledge.index.records import FILTERS, Record
from kyara_utils.runs.errors import KyaraError

GRAPH_ABOVE = 10_000  # points up to which an exact scan takes a millisecond or two: no graph, no quantisation
HNSW = {"m": 32, "ef_construct": 200}  # with fewer links a search needs twice the candidates for the same recall
EF = 72  # candidates of a graph search in each segment; see the index bench for recall@10 and the time of a query
OVERSAMPLING = 1.5  # int8 finds that many more candidates, which the float32 vectors then rescore
SEGMENTS = 4  # of a large index, each with its own graph: built one after the other, they need half of the memory
SEGMENT = 50_000  # points of one segment at most: the terms of those not yet in a graph are in memory, 3 kB a point
IN_MEMORY = 100_000  # points up to which the engine holds graph, terms and filters itself; above, they are mapped files
NO_GRAPH = 10**9  # kilobytes: an indexing threshold that is never reached
Where = Mapping[str, str | Sequence[str]]
Scored = list[tuple[float, int]]


def config(dim: int, graph: bool, points: int = 0):
    """Dense cosine and BM25 with IDF; with `graph`, HNSW over int8 vectors in `segments(points)` segments."""
    from qdrant_edge import (
        Distance,
        EdgeConfig,
        EdgeOptimizersConfig,
        EdgeSparseVectorParams,
        EdgeVectorParams,
        HnswIndexConfig,
        Memory,
        Modifier,
        ScalarQuantizationConfig,
        ScalarType,
    )

    where = Memory.Cold if points > IN_MEMORY else None
    int8 = ScalarQuantizationConfig(type=ScalarType.Int8, quantile=0.99, memory=where)
    return EdgeConfig(
        vectors={"dense": EdgeVectorParams(size=dim, distance=Distance.Cosine, memory=where)},
        sparse_vectors={"bm25": EdgeSparseVectorParams(modifier=Modifier.Idf, memory=where)},
        payload_memory=where,
        id_tracker_memory=where,
        hnsw_config=HnswIndexConfig(**HNSW, full_scan_threshold=10_000, memory=where),
        quantization_config=int8 if graph else None,
        optimizers=EdgeOptimizersConfig(
            default_segment_number=segments(points) if graph else 1,
            max_segment_size=max(GRAPH_ABOVE, points // segments(points)) * dim // 200 if graph else None,
            indexing_threshold=GRAPH_ABOVE * dim // 512 if graph else NO_GRAPH,  # kilobytes of half as many vectors
        ),
    )


def segments(points: int) -> int:
    """Number of segments of an index with a graph."""
    return max(SEGMENTS, -(-points // SEGMENT))


def create(folder: Path, dim: int, graph: bool, points: int = 0):
    """Make an empty shard in a new folder; with `graph`, for about so many points."""
    from qdrant_edge import EdgeShard

    folder.mkdir(parents=True)
    return EdgeShard.create(str(folder), config(dim, graph, points))


def load(path: Path, new_config: Any = None):
    """Open a shard; `new_config` replaces its configuration. Raises `KyaraError` if it is in use or damaged."""
    from qdrant_edge import EdgeShard

    try:
        return EdgeShard.load(str(path), new_config)
    except Exception as error:  # the engine raises nothing more special
        fix = "close the notebook that holds it" if in_use(error) else "delete it and build it again"
        raise KyaraError(f"cannot open the index {path} ({error}); {fix}") from error


def in_use(error: Exception) -> bool:
    return "WouldBlock" in str(error)


def write(shard, batches: Iterable[list[Record]]) -> None:
    """Upsert by id. One thread: the engine holds Python's lock while it writes."""
    from qdrant_edge import UpdateOperation

    for batch in batches:
        shard.update(UpdateOperation.upsert_points([_point(record) for record in batch]))


def _point(record: Record):
    from qdrant_edge import Point, SparseVector

    vectors = {"dense": record.dense, "bm25": SparseVector(record.indices, record.values)}
    return Point(record.id, vectors, record.payload)


def index_fields(shard, points: int = 0) -> None:
    """Make the payload fields of `FILTERS` searchable; before the graph, so that it links within each value."""
    from qdrant_edge import KeywordIndexParams, Memory, PayloadSchemaType, UpdateOperation

    kind = KeywordIndexParams(memory=Memory.Cold) if points > IN_MEMORY else PayloadSchemaType.Keyword
    for field in FILTERS:
        shard.update(UpdateOperation.create_field_index(field, kind))


def condition(where: Where, keep: Iterable[int] = ()):
    """A filter: each field is one of its values, and the point is none of `keep`; None for no condition."""
    from qdrant_edge import FieldCondition, Filter, HasIdCondition, MatchAny

    must = [FieldCondition(field, match=MatchAny(values(found))) for field, found in where.items()]
    must_not = [HasIdCondition(set(keep))] if keep else None
    return Filter(must=must, must_not=must_not) if must or must_not else None


def values(found: str | Sequence[str]) -> list[str]:
    return [found] if isinstance(found, str) else list(found)


def delete(shard, where: Where, keep: Iterable[int]) -> int:
    """Delete what matches and is not kept; return the number of points."""
    from qdrant_edge import CountRequest, UpdateOperation

    chosen = condition(where, keep)
    found = shard.count(CountRequest(filter=chosen))
    if found:
        shard.update(UpdateOperation.delete_points_by_filter(chosen))
    return found


def rank(shard, queries: Sequence[tuple[str, Any]], limit: int, where: Where, graph: bool) -> list[Scored]:
    """Return (score, point id) lists, one a query: ("dense", [dim]) or ("bm25", (indices, values))."""
    from qdrant_edge import Query, QueryBatchRequest, QueryRequest, SparseVector

    chosen, params = condition(where), _search_params(graph)
    requests = []
    for using, vector in queries:
        vector = SparseVector(*vector) if using == "bm25" else vector
        query = Query.Nearest(vector, using=using)
        requests.append(QueryRequest(limit=limit, query=query, filter=chosen, params=params))
    return [[(p.score, p.id) for p in found] for found in shard.query_batch(QueryBatchRequest(requests))]


def _search_params(graph: bool):
    from qdrant_edge import QuantizationSearchParams, SearchParams

    if not graph:
        return SearchParams(exact=True)
    return SearchParams(hnsw_ef=EF, quantization=QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING))


def payloads(shard, ids: Sequence[int]) -> dict[int, dict[str, str]]:
    """The payload of each point, by id."""
    return {point.id: point.payload for point in shard.retrieve(list(ids), True, False)}
