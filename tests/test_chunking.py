"""Chunks keep their budget, their structure and every character; duplicates go with a witness, ids stay unique."""

import json
import re
import tracemalloc
from dataclasses import replace
from functools import partial

import pytest
from folders import HANS, HANT, write

from kyara_utils.knowledge.chunks import chunking, corpus_tables
from kyara_utils.knowledge.chunks.chunk import Chunk
from kyara_utils.knowledge.chunks.chunk_rows import read_chunks
from kyara_utils.knowledge.chunks.chunking import chunk_corpus, chunk_document, iter_chunks
from kyara_utils.knowledge.chunks.compact_table import CompactTable
from kyara_utils.knowledge.chunks.corpus_tables import write_corpus
from kyara_utils.knowledge.chunks.repeated_passages import drop_near_duplicates
from kyara_utils.knowledge.readers.folder import Document, read_corpus
from kyara_utils.runs import KyaraError, RowWriter, read_rows
from kyara_utils.text import near_duplicates
from kyara_utils.text.normalise import converter


def document(text, title="標題"):
    return Document("doc_1", title, text, "a.md")


def sorted_out(items):
    """(chunks, rejects) of a stream."""
    items = list(items)
    return [i for i in items if isinstance(i, Chunk)], [i for i in items if isinstance(i, dict)]


def squeeze(text):
    return "".join(text.split())


@pytest.mark.parametrize("budget", [32, 100, 192])
def test_chunks_keep_the_budget_and_every_character(budget):
    """A lost sentence cannot be found; a chunk over budget is cut off by the embedder without a word."""
    text = f"## 一\n\n{HANT * 4}\n\n{HANS}\n\n### 二\n\n{'x' * 300}\n\n- 甲。\n- 乙。\n\n"
    text += f"## 三\n\nOne. Two! {HANT}"
    chunks = chunk_document(document(text), len, budget)
    body = squeeze(re.sub(r"(?m)^#+ .*$", "", text))
    joined, headings = squeeze("".join(c.text for c in chunks)), str.maketrans("", "", "一二三>")
    assert max(c.tokens for c in chunks) <= budget and all(c.tokens == len(c.text) for c in chunks)
    assert joined.translate(headings) == body.translate(headings)
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


def test_short_sections_join_and_keep_their_subject():
    """Help pages are a heading over one sentence, again and again; without its heading such a sentence says nothing."""
    sections = "".join(f"### {name}\n\n設定{name}的值。\n\n" for name in ("邊界", "縮排", "行距", "字距"))
    text = f"## 段落\n\n{HANT}\n\n{sections}## 列印\n\n### 份數\n\n指定份數。\n\n### 順序\n\n{HANT}"
    chunks = chunk_document(document(text), len, 160)
    assert [c.heading for c in chunks] == ["段落", "列印"] and min(c.tokens for c in chunks) >= 30
    assert all(f"{name}\n設定{name}的值。" in chunks[0].text for name in ("邊界", "縮排", "行距", "字距"))
    assert chunks[1].text == f"份數\n指定份數。\n\n順序\n{HANT}"  # with its sibling, not with what stands before
    far = chunk_document(document(f"## 甲\n\n### 乙\n\n很短。\n\n## 丙\n\n### 丁\n\n{HANT}"), len)
    assert [(c.heading, c.text) for c in far] == [("", f"甲 > 乙\n很短。\n\n丙 > 丁\n{HANT}")]


def test_the_last_passage_of_a_section_is_no_fragment():
    """What a full passage leaves over is a sentence; it takes as many from the passage before as it needs."""
    text = "".join(f"這是第{n:02}個句子，內容各有不同。" for n in range(12))
    for length in range(4, 28):
        chunks = chunk_document(document(text + "尾" * length + "。"), len, 128)
        assert min(c.tokens for c in chunks) >= 30 and max(c.tokens for c in chunks) <= 128
        assert squeeze("".join(c.text for c in chunks)) == text + "尾" * length + "。"


def test_documents_in_are_documents_out_and_rejects(tmp_path):
    """Nothing disappears: each document has a chunk or a reject row, and a duplicate names its witness."""
    texts = {"a.md": f"# 甲\n\n{HANT}", "b.md": f"# 乙\n\n{HANT}", "c.md": f"# 丙\n\n{HANS}", "d.txt": "短"}
    write(tmp_path, texts)
    items = list(read_corpus(tmp_path))
    chunks, rejects = sorted_out(chunk_corpus(items, len))
    assert [r["rule"] for r in rejects] == ["duplicate", "too_short"] and rejects[0]["detail"] == chunks[0].id
    ids = {d.id for d in items if isinstance(d, Document)}
    assert ids == {c.doc_id for c in chunks} | {json.loads(rejects[0]["row"])["doc_id"]}


def test_bundled_corpus_is_covered(tmp_path):
    """All bundled articles must reach the index, in the script the project promises."""
    items = list(read_corpus("bundled"))
    chunks, _ = sorted_out(chunk_corpus(items, lambda text: len(text)))
    assert len(items) >= 140 and {d.id for d in items} == {c.doc_id for c in chunks}
    assert {c.lang for c in chunks} == {"zh-Hant"} and max(c.tokens for c in chunks) <= 192


def test_tables_stay_whole_and_torn_ones_keep_their_head_row():
    """A row without its column names says nothing."""
    rows = "\n".join(f"| 項目{n} | 數值{n} |" for n in range(4))
    table = f"| 名稱 | 大小 |\n|---|---|\n{rows}"
    whole = chunk_document(document(f"{HANT}\n\n{table}\n\n{HANT}"), len, 100)
    assert any(table in c.text for c in whole)
    torn = chunk_document(document(table + "\n" + rows.replace("項目", "品項") * 1), len, 60)
    assert len(torn) > 1 and all(c.text.startswith("| 名稱 | 大小 |\n|---|---|\n") for c in torn)
    assert sum(c.text.count("數值") for c in torn) == 8 and max(c.tokens for c in torn) <= 60


def test_chunks_end_at_sentence_ends():
    """A sentence cut in two is found by neither half; closing marks belong to their sentence."""
    text = "他說：「這樣不對。」然後離開！真的嗎？！是的；沒錯…… Version 3.14 is out. It works."
    chunks = chunk_document(document(text * 6), len, 40)
    ends = ("。」", "！", "？！", "；", "……", ".")
    assert all(c.text.endswith(ends) for c in chunks) and not any(c.text.startswith(("」", "14")) for c in chunks)
    numbered = chunk_document(document("1. 先把水煮開，再把麵條放進鍋子裡面。\n" * 3), len, 24)
    assert all(c.text.startswith("1. 先") for c in numbered)


@pytest.mark.parametrize(
    "count",
    [
        lambda text: 5 + len(text.encode()) // 2,
        lambda text: 7 + sum(9 if c in "臺灣𠮷" else 1 for c in text),
        lambda text: len(text.split()),
        lambda text: 3 * len(text) - text.count("。") * 2,
    ],
)
def test_no_tokenizer_breaks_the_budget(count):
    """The estimate learns as it goes; whatever the tokenizer, what comes out has been counted."""
    text = f"# 甲\n\n{HANT * 9}\n\n𠮷野家臺灣{HANS * 3}\n\n```\n{'x = 1  # 註解' * 40}\n```\n\n" + "| 一 | 二 |\n" * 60
    for overlap in (0, 15):
        chunks = chunk_document(document(text * 3), count, 64, overlap)
        assert max(c.tokens for c in chunks) <= 64 and all(c.tokens == count(c.text) for c in chunks)
        assert len(chunks) > 4


def test_few_tokenizer_calls_fill_the_chunks():
    """A call for every sentence would make the tokenizer the slowest part; half-empty chunks waste the embedder."""
    calls = []
    text = "".join(f"這是第{n:03}個句子，內容和其他句子各有不同。" for n in range(600))
    chunks = chunk_document(document(text), lambda text: calls.append(text) or 4 + int(0.7 * len(text)), 192)
    assert len(calls) < 1.5 * len(chunks)
    assert sum(c.tokens for c in chunks) > 0.85 * 192 * (len(chunks) - 1)


def test_a_chunk_does_not_depend_on_the_documents_around_it():
    """Adding one document must not change the ids, and so the vectors, of all others."""
    docs = [replace(d, path=str(n)) for n, d in enumerate(read_corpus("bundled")) if n % 9 == 0]
    alone = [chunk_document(d, lambda text: 5 + int(0.8 * len(text)), 96) for d in docs]
    together = list(iter_chunks(docs, lambda text: 5 + int(0.8 * len(text)), 96))
    assert [c for chunks in alone for c in chunks] == together


def test_unclosed_and_odd_structure_loses_nothing():
    """Web text has fences that never close, tables of one row and headings without text."""
    for text in (
        "```\n" + "code line one\n" * 9,
        "| 一 |\n" + HANT,
        "# \n## \n" + HANT,
        "#" * 400 + HANT,
        "\ufeff \n" + HANT,
    ):
        chunks = chunk_document(document(text), len, 64)
        assert squeeze("".join(c.text for c in chunks)).count("產業") == text.count("產業") and chunks
    empty = document("## 只有標題\n\n### 還是標題")
    assert [r["rule"] for r in iter_chunks([empty], len)] == ["too_short"]


def test_a_line_of_millions_of_characters_is_cut_without_counting_it_whole():
    """A minified page in one line must cost time in proportion to its length."""
    longest = []

    def count(text):
        longest.append(len(text))
        return 5 + len(text)

    chunks = chunk_document(document("甲乙丙丁戊己庚辛" * 200_000), count, 192)
    assert max(longest) < 100_000 and sum(len(c.text) for c in chunks) == 1_600_000
    assert max(c.tokens for c in chunks) <= 192


def test_an_id_taken_by_another_text_is_salted(monkeypatch):
    """32 bits collide once in some 100,000 chunks; two passages under one id would cite each other."""
    monkeypatch.setattr(chunking, "content_id", lambda *parts: f"id_{len(parts[2]) % 2 + 2 * (len(parts) > 3):08x}")
    text = HANT if len(HANT) % 2 == 0 else HANT[1:]
    docs = [document(text, "甲"), document(text[:-2], "乙"), document(text[:-2], "丁")]
    first, second, rejected = iter_chunks(docs, len)
    assert (first.id, second.id) == ("id_00000000", "id_00000002")
    assert rejected["rule"] == "duplicate" and rejected["detail"] == second.id


def test_many_colliding_ids_stay_unique_and_repeatable(monkeypatch):
    """The same corpus must give the same ids on every run, however many collide."""
    real = chunking.content_id
    monkeypatch.setattr(chunking, "content_id", lambda *parts: real(*parts)[:-5] + "00000")
    docs = [document(f"{n}：{HANT}", f"題{n}") for n in range(1500)]
    ids = [c.id for c in iter_chunks(docs, len)]
    assert len(set(ids)) == 1500 and all(re.fullmatch(r"id_[0-9a-f]{8}", i) for i in ids)
    assert ids == [c.id for c in iter_chunks(docs, len)]
    assert len({real(d.title, "", d.text)[:-5] for d in docs}) < 1500


def test_compact_table_agrees_with_a_dict():
    """The table replaces a dict where memory counts; it must remember the same."""
    table, held = CompactTable(8), {}
    for n in range(20_000):
        key = (n * 0x9E3779B97F4A7C15 >> 3) % 9973 + 1
        assert table.add(key, n) == held.get(key)
        held.setdefault(key, n)
    table.set(5, 77)
    assert len(table) == len(held) and table.add(5) == 77


def test_near_duplicates_go_with_a_witness_unless_numbers_differ():
    """Mirrored pages crowd out other hits; a table of another year is another fact."""
    base = [f"{HANT}{word}是今天的主題，大家可以從不同的角度來討論它的過去與未來。" for word in ("農業", "漁業")]
    texts = [
        base[0],
        base[0].replace("今天", "本日"),
        base[0] + "2019年有3件。",
        base[0] + "2020年有4件。",
        converter("t2s").convert(base[0]),
    ]
    chunks = [c for n, t in enumerate(texts) for c in chunk_document(document(t, f"題{n}"), len, 384)]
    kept, rejects = sorted_out(drop_near_duplicates(chunks, 0.8))
    assert [c.title for c in kept] == ["題0", "題2", "題3"]
    assert [r["rule"] for r in rejects] == ["near_duplicate"] * 2 and kept[0].id in rejects[0]["detail"]
    documents = [document(t, f"題{n}") for n, t in enumerate(texts)]
    kept, rejects = sorted_out(chunk_corpus(documents, len, 384, near_duplicate=0))
    assert len(kept) == 5 and not rejects
    with pytest.raises(KyaraError, match="near_duplicate"):
        next(drop_near_duplicates(chunks, 9))


def test_rows_carry_language_script_and_the_first_path(tmp_path):
    """Later steps sample and filter by these columns; of two equal documents the first is the source."""
    docs = [document(HANT), replace(document(HANT), path="later/b.md"), document("Plain English words only. " * 3, "T")]
    docs[2] = replace(docs[2], id="doc_2", path="en/c.md")
    counts = write_corpus(docs, tmp_path, len, progress=False)
    rows, rejects = read_rows(tmp_path / "chunks.parquet"), read_rows(tmp_path / "rejects.parquet")
    assert [(r["lang"], r["script"], r["path"], r["topic"]) for r in rows] == [
        ("zh-Hant", "Hant", "a.md", ""),
        ("en", "Latn", "en/c.md", "en"),
    ]
    assert [r["rule"] for r in rejects] == ["duplicate"]
    assert (counts.items, counts.documents, counts.chunks, counts.rejects, counts.lost) == (3, 3, 2, 1, {})
    (chunks,) = read_chunks(tmp_path / "chunks.parquet", 10)
    assert [c.text for c in chunks] == [r["text"] for r in rows] and counts.tokens == sum(c.tokens for c in chunks)


def test_memory_of_step_01_is_a_fraction_of_the_text(tmp_path, monkeypatch):
    """A corpus larger than memory must reach its table: what stays of a text is a sketch of it."""
    monkeypatch.setattr(corpus_tables, "RowWriter", partial(RowWriter, batch=64))
    monkeypatch.setattr(near_duplicates, "IN_MEMORY", 1 << 16)
    text = "".join(chr(0x4E00 + n % 9973) + ("。" if n % 40 == 39 else "") for n in range(20_000))

    def peak(n):
        docs = (document(f"{at}：{text[at * 7 : at * 7 + 1000]}{at}") for at in range(n))
        tracemalloc.start()
        counts = write_corpus((replace(d, id=f"doc_{at:016x}") for at, d in enumerate(docs)), tmp_path, len, 1100,
                              progress=False)  # fmt: skip
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert counts.chunks == n
        return found

    peak(100)  # tables are built once
    small, large = peak(600), peak(1800)  # both more than a batch
    assert (large - small) / 1200 < 1000  # bytes a chunk, of 3,000 bytes of text


def test_chunking_reads_ahead_by_one_batch_only(monkeypatch):
    """A corpus larger than memory must stream through: documents come in as chunks go out."""
    monkeypatch.setattr(chunking, "BATCH", 500)
    read = []

    def corpus():
        for n in range(100):
            read.append(n)
            yield document(f"{n}：{HANT}")

    chunks = iter_chunks(corpus(), len)
    next(chunks)
    assert len(read) <= 12
    assert sum(1 for _ in chunks) == 99 and len(read) == 100
