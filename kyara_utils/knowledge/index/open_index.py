"""The index of a run: Qdrant's engine in process, in one folder, or a Qdrant server by URL.

An index is built beside its place and moved there when complete; later updates go through the engine's
write-ahead log. So a killed process leaves the old index or the new one, and a rerun completes it.
"""

import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from kyara_utils.knowledge.embedders import Embedder
from kyara_utils.knowledge.index import edge
from kyara_utils.knowledge.index.edge import Scored, Where
from kyara_utils.knowledge.index.passages import Passages
from kyara_utils.knowledge.index.ranking import Hit, Index, Query, check_embedder
from kyara_utils.knowledge.index.records import BATCH, Record, checked, records
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.files import replacing, sweep

__all__ = ["EdgeIndex", "Hit", "Index", "build_index", "open_index"]
FACTS = "kyara.json"  # written into a complete index


def build_index(target: str | Path, passages: Passages, embedder: Embedder) -> Index:
    """Index passages in a folder, or in a server's collection, "http://host:6333/collection" (default "kyara").

    Behind a ? may stand how it lies on a cluster, see `server.layout_of`.
    """
    if not _is_url(target):
        return EdgeIndex.build(target, passages, embedder)
    from kyara_utils.knowledge.index.server import ServerIndex, connect, layout_of, split_url

    url, name = split_url(str(target))
    return ServerIndex.build(connect(url), name, passages, embedder, layout_of(str(target)))


def open_index(target: str | Path, embedder: Embedder) -> Index:
    """Open what `build_index` built at the same place."""
    if not _is_url(target):
        return EdgeIndex.open(target, embedder)
    from kyara_utils.knowledge.index.server import ServerIndex, connect, split_url

    url, name = split_url(str(target))
    return ServerIndex.open(connect(url), name, embedder)


def _is_url(target: str | Path) -> bool:
    return str(target).startswith(("http://", "https://"))


class EdgeIndex(Index):
    """Qdrant's engine in process, in one folder. One process holds it open at a time.

    Up to `edge.GRAPH_ABOVE` chunks every search scans all vectors and is exact. Above, it goes through an HNSW graph
    over int8 vectors and rescores with float32: one index answers alike each time, but of two graphs built from the
    same chunks each may miss another neighbour in some hundreds.
    """

    def __init__(self, path: Path, shard, embedder: Embedder, facts: dict[str, Any]) -> None:
        self.path, self.embedder, self.average = path, embedder, facts["average"]
        self._opened, self._facts = shard, facts

    @classmethod
    def build(cls, path: str | Path, passages: Passages, embedder: Embedder, graph: bool | None = None) -> "EdgeIndex":
        """Index passages under `path`, replacing what is there only once the new index is complete.

        `graph` overrules the choice by size.
        """
        path = Path(path)
        _check_replaceable(path)
        graph = passages.count > edge.GRAPH_ABOVE if graph is None else graph
        facts = {"embedder": embedder.name, "dim": embedder.dim, "average": passages.average, "graph": graph}
        with replacing(path) as fresh:
            _fill(fresh, records(checked(passages.batches(), embedder), passages.average), facts, passages.count)
        return cls.open(path, embedder)

    @classmethod
    def open(cls, path: str | Path, embedder: Embedder) -> "EdgeIndex":
        """Open a built index. Raises `KyaraError` if it is missing, in use, or of another embedder."""
        path = Path(path)
        facts = _facts(path)
        check_embedder(str(path), facts, embedder)
        return cls(path, edge.load(path), embedder, facts)

    @classmethod
    def restore(cls, snapshot: str | Path, path: str | Path, embedder: Embedder) -> "EdgeIndex":
        """Unpack a file that `snapshot` wrote to `path`, replacing the index there, and open it."""
        path = Path(path)
        _check_replaceable(path)
        with replacing(path) as fresh:
            try:
                with tarfile.open(snapshot) as archive:
                    archive.extractall(fresh, filter="data")
            except (tarfile.TarError, EOFError) as error:
                raise KyaraError(f"{snapshot} is no snapshot of an index ({error}); make one with .snapshot") from error
            check_embedder(str(snapshot), _facts(fresh), embedder)
        return cls.open(path, embedder)

    def snapshot(self, path: str | Path) -> Path:
        """Write the index, as it is now, to one file; the index stays open."""
        self._do(lambda shard: shard.flush())
        with replacing(Path(path)) as fresh, tarfile.open(fresh, "w") as archive:
            archive.add(self.path, arcname=".")
        return Path(path)

    def optimise(self) -> None:
        """Merge what upserts added and, above `edge.GRAPH_ABOVE` chunks, build the graph; searches work before, too."""
        points = len(self)
        if not self._facts["graph"] and points > edge.GRAPH_ABOVE:
            self._do(lambda shard: shard.flush())
            self.close()
            self._opened = edge.load(self.path, edge.config(self.embedder.dim, graph=True, points=points))
            self._facts |= {"graph": True}
            with replacing(self.path / FACTS) as fresh:
                fresh.write_text(json.dumps(self._facts), encoding="utf-8")
        self._do(lambda shard: (shard.optimize(), shard.flush()))

    def __len__(self) -> int:
        from qdrant_edge import CountRequest

        return self._do(lambda shard: shard.count(CountRequest()))

    def close(self) -> None:
        """Release the folder; closing twice does no harm."""
        if self._opened is not None:
            self._opened.close()
        self._opened = None

    def _rank(self, queries: Sequence[Query], limit: int, where: Where) -> list[Scored]:
        return self._do(lambda shard: edge.rank(shard, queries, limit, where, self._facts["graph"]))

    def _payloads(self, ids: Sequence[int]) -> dict[int, dict[str, str]]:
        return self._do(lambda shard: edge.payloads(shard, ids))

    def _write(self, batches: Iterator[list[Record]]) -> None:
        self._do(lambda shard: (edge.write(shard, batches), shard.flush()))

    def _delete(self, where: Where, keep: Sequence[int]) -> int:
        return self._do(lambda shard: edge.delete(shard, where, keep))

    def _do(self, action: Callable[[Any], Any]) -> Any:
        if self._opened is None:
            raise KyaraError(f"the index {self.path} is closed; open it again with EdgeIndex.open")
        return action(self._opened)


def _fill(folder: Path, batches: Iterator[list[Record]], facts: dict[str, Any], points: int) -> None:
    """Write a segment, build its graph, go on; a large index is opened anew each time, to let go of what it built."""
    segment = points // BATCH // (edge.segments(points) if facts["graph"] else 1) + 1
    shard = edge.create(folder, facts["dim"], facts["graph"], points)
    try:
        edge.index_fields(shard, points)
        while (first := next(batches, None)) is not None:
            edge.write(shard, chain([first], islice(batches, segment - 1)))
            shard.flush()
            shard.optimize()
            if points > edge.IN_MEMORY:
                shard.close()
                shard = edge.load(folder)
        shard.optimize()
        shard.flush()
    finally:
        shard.close()
    (folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")


def _facts(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads((path / FACTS).read_text(encoding="utf-8"))
        return {name: facts[name] for name in ("embedder", "dim", "average", "graph")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KyaraError(f"{path} holds no complete index; build it with 01_corpus_indexing") from error


def _check_replaceable(path: Path) -> None:
    """Refuse to replace a folder that is no index, or an open index; sweep up after builds that were killed."""
    sweep(path)
    if not path.exists() or not any(path.iterdir()):
        return
    if not (path / FACTS).is_file():
        raise KyaraError(f"{path} holds other files; choose a new or empty folder for the index")
    try:
        edge.load(path).close()
    except KyaraError as error:
        if edge.in_use(error):
            raise
