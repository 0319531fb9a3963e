"""The row passport: what a reader is told about a row must be what the tables, the store and the manifests hold."""

import json
import sqlite3
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from kyara_utils.runs import KyaraError, content_id, manifest, reject, write_rows
from kyara_utils.runs.lineage import lineage, main, read_calls, render_html, render_text
from kyara_utils.runs.schemas import CHUNK, CONVERSATION, PREFERENCE, REJECT, extend

HOSTILE = "<script>alert(1)</script> {{ 7 * 7 }} {% raw %} \x1b[2J\u202e \" onload='x' <img src=http://evil/>"
SYNTHESIS, FILTERING, SFT, JUDGING = "02_rag_sft_synthesis", "04_filtering", "05_sft", "06_dpo_pair_judging"


def chunk(name: str, title: str, text: str) -> dict:
    return {
        "id": name, "doc_id": content_id(title, prefix="doc_"), "title": title, "path": f"food/{title}.md",
        "text": text, "tokens": 9, "topic": "food",
    }  # fmt: skip


def conversation(name: str, asked: str, content: str, parents: list, calls: list, meta: dict | str = "") -> dict:
    return {
        "id": name, "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": content}],
        "lang": "zh-Hant", "source": "rag", "parents": parents, "call_ids": calls,
        "meta": meta if isinstance(meta, str) else json.dumps(meta, ensure_ascii=False),
    }  # fmt: skip


def preference(name: str, parents: list[str], verdicts: dict, calls: list[str]) -> dict:
    sides = {side: [{"role": "assistant", "content": side}] for side in ("chosen", "rejected")}
    return {
        "id": name, "prompt": [{"role": "user", "content": "茶怎麼泡？"}], **sides, "source": "rlaif",
        "chosen_model": "sft", "rejected_model": "smollm2-135m", "verdicts": json.dumps(verdicts), "parents": parents,
        "call_ids": calls,
    }  # fmt: skip


def finish(folder: Path, names: list[str], inputs: dict | None = None) -> None:
    """Write a step's manifest as `Run.finish` does, as far as lineage reads it."""
    outputs = {name: manifest.describe(folder / f"{name}.parquet", folder) for name in names}
    key = {"params": {"model": "gemma-3-270m"}, "inputs": inputs or {}}
    content = {"step": folder.name, "outputs": outputs, "key": key, "finished": "2026-01-02T03:04:05+0000"}
    manifest.write_json(folder / "manifest.json", content | {"git": f"commit-{folder.name[:2]}", "seconds": 12.5})


def outputs(folder: Path) -> dict[str, str]:
    return {name: item["sha256"] for name, item in manifest.read(folder)["outputs"].items()}


def store_calls(path: Path) -> None:
    """A store as the client writes it, with a column and a table that this reader was not told of."""
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute(
            "CREATE TABLE calls (key TEXT PRIMARY KEY, model TEXT, request TEXT, response TEXT, prompt_tokens INTEGER,"
            " completion_tokens INTEGER, seconds REAL, created REAL, attempts INTEGER)"
        )
        db.execute("CREATE TABLE failures (key TEXT, model TEXT, request TEXT, error TEXT, PRIMARY KEY (key, error))")
        chat = {"messages": [{"role": "user", "content": "出一題"}], "max_tokens": 48, "temperature": 0.3}
        content = {"choices": [{"message": {"content": "烏龍茶怎麼泡？"}, "finish_reason": "stop"}]}
        judged = {"choices": [{"text": "能", "logprobs": {"top_logprobs": [{"能": -0.25, "否": -1.5}]}}]}
        put = "INSERT INTO calls VALUES (?,?,?,?,?,?,?,?,?)"
        db.execute(put, ("call_1", "gemma-3-270m", json.dumps(chat), json.dumps(content), 120, 9, 0.5, 1767323045.0, 3))
        db.execute(put, ("call_2", "gemma-3-270m", '{"prompt": "相關？"}', json.dumps(judged), 80, 1, 0.25, 0, 1))
        db.execute("INSERT INTO failures VALUES ('call_3', 'gemma-3-270m', '{}', 'HTTP 400: context full')")
    db.close()


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A small recipe whose steps left tables, manifests and a call store."""
    (tmp_path / "params").mkdir()
    (tmp_path / "params/pipeline.yaml").write_text("steps: {}\n")
    monkeypatch.setenv("KYARA_ROOT", str(tmp_path))
    monkeypatch.setenv("KYARA_RUNS", str(tmp_path / "runs"))
    folder = tmp_path / "runs" / "tiny"
    chunks = [chunk("id_aaaa0001", "烏龍茶", "烏龍茶是部分發酵的茶。"), chunk("id_bbbb0002", "豆腐", HOSTILE)]
    corpus = folder / "01_corpus_indexing"
    write_rows(corpus / "chunks.parquet", chunks, CHUNK)
    finish(corpus, ["chunks"])
    synthesis(folder, chunks)
    filtering(folder)
    preferences(folder)
    store_calls(folder / "calls.sqlite")
    return folder


def synthesis(folder: Path, chunks: list[dict]) -> None:
    hits = [{"id": "id_bbbb0002", "title": "豆腐", "score": 0.0328, "relevance": 0.71, "relevant": True}]
    meta = {
        "kind": "rag", "model": "gemma-3-270m", "document": "id_aaaa0001", "queries": ["烏龍茶 泡法"], "hits": hits,
        "digests": [{"id": "id_bbbb0002", "text": "摘要"}], "prompts": ["synthesis/question@1"], "oddity": {"a": 1},
        "context": ["id_bbbb0002"], "answerable": False, "checks": ["copying", "refusal"],
        "evolution": {"direction": "deepen", "from": "茶？"},
    }  # fmt: skip
    kept = conversation("conv_111111111111", "烏龍茶怎麼泡？", HOSTILE, ["id_aaaa0001"], ["call_1", "call_2"], meta)
    other = conversation("conv_112222222222", "豆腐是什麼？", "字" * 10_000, ["id_bbbb0002"], ["call_3", "call_9"])
    draft = {"id": "draft_3333", "chunk": chunks[0], "question": "茶", "calls": ["call_2"], "rule": "not_a_question"}
    write_rows(folder / SYNTHESIS / "conversations.parquet", [kept, other], CONVERSATION)
    write_rows(folder / SYNTHESIS / "rejects.parquet", [reject(SYNTHESIS, "not_a_question", draft, "茶")], REJECT)
    corpus = {"01_corpus_indexing": outputs(folder / "01_corpus_indexing")}
    finish(folder / SYNTHESIS, ["conversations", "rejects"], corpus)


def filtering(folder: Path) -> None:
    from kyara_utils.runs import read_rows

    kept, other = read_rows(folder / SYNTHESIS / "conversations.parquet")
    scored = kept | {"tags": ["茶"], "score": 0.5}
    for name in ("base", "refined"):
        write_rows(folder / FILTERING / f"{name}.parquet", [scored], extend(CONVERSATION, tags=list[str], score=float))
    write_rows(folder / FILTERING / "rejects.parquet", [reject(FILTERING, "language", other, "lang=en")], REJECT)
    finish(folder / FILTERING, ["base", "refined", "rejects"], {SYNTHESIS: outputs(folder / SYNTHESIS)})
    write_rows(folder / SFT / "rejects.parquet", [], REJECT)
    finish(folder / SFT, ["rejects"], {FILTERING: outputs(folder / FILTERING)})


def preferences(folder: Path) -> None:
    verdict = {"judge": "gemma-3-270m", "forward": "A", "reverse": "A", "outcome": "first", "margin_forward": 0.61}
    rows = [
        preference("pref_444444444444", ["conv_111111111111"], {}, ["call_1"]),
        preference("pref_555555555555", [], verdict | {"call_ids": ["call_2"]}, ["call_2"]),
    ]
    write_rows(folder / JUDGING / "preferences.parquet", rows, PREFERENCE)
    finish(folder / JUDGING, ["preferences"], {FILTERING: outputs(folder / FILTERING)})


def section(passport: dict, text: str) -> str:
    """The lines of one section of the text."""
    lines = [*render_text(passport).split("\n"), ""]
    start = lines.index(text)
    return "\n".join(lines[start : lines.index("", start)])


def test_a_row_tells_its_document_calls_retrieval_and_fate(recipe):
    """One command names the documents, prompts, models and filters behind a row."""
    passport = lineage("tiny", "conv_111111111111")
    assert [node["id"] for node in passport["nodes"]] == ["conv_111111111111", "id_aaaa0001"]
    text = render_text(passport)
    for expected in (
        "烏龍茶是部分發酵的茶。",
        "food/烏龍茶.md",
        "出一題",
        "烏龍茶怎麼泡？",
        "120 + 9 tokens",
        "'能' -0.25",
        "attempts: 3",
    ):
        assert expected in text
    assert "synthesis/question: 1" in section(passport, "Prompt versions")
    retrieved = section(passport, "Retrieved")
    assert "score 0.0328" in retrieved and "relevant true" in retrieved and "alert(1)" in retrieved
    fate = section(passport, "What became of it")
    assert fate.index("written to conversations") < fate.index("kept in base") < fate.index("kept in refined")
    assert "set tags, score" in fate
    assert "answerable: false" in section(passport, "At a glance") and "豆腐" in section(passport, "Documents shown")
    assert "pref_444444444444" in section(passport, "What came of it")


def test_steps_that_read_a_row_and_say_nothing_of_it_are_named(recipe):
    """Most rows that are trained on stand in no table of step 05; silence must not look like absence."""
    readers = lineage("tiny", "conv_111111111111")["readers"]
    assert [(item["step"], item["table"], item["current"]) for item in readers] == [
        (SFT, "base", True), (SFT, "refined", True),
    ], "06 made a pair of it and so is not silent"  # fmt: skip
    finish(recipe / SFT, ["rejects"], {FILTERING: {"base": "an older hash"}})
    passport = lineage("tiny", "conv_111111111111")
    assert [item["current"] for item in passport["readers"]] == [False]
    assert "earlier version" in section(passport, "What became of it")


def test_ancestors_are_walked_to_the_documents(recipe):
    """A preference comes from a conversation, which comes from a document."""
    nodes = lineage("tiny", "pref_444444444444")["nodes"]
    assert [(node["id"], node["depth"]) for node in nodes] == [
        ("pref_444444444444", 0), ("conv_111111111111", 1), ("id_aaaa0001", 2),
    ]  # fmt: skip
    assert nodes[1]["row"]["score"] == 0.5, "the last step's columns count"


def test_a_loop_of_parents_ends(recipe):
    """Damaged or hand-made tables may name each other."""
    rows = [conversation(f"loop_{a}", "?", "!", [f"loop_{b}", f"loop_{a}"], []) for a, b in ("xy", "yz", "zx")]
    write_rows(recipe / "03_math_personahub" / "conversations.parquet", rows, CONVERSATION)
    passport = lineage("tiny", "loop_x")
    assert [node["id"] for node in passport["nodes"]] == ["loop_x", "loop_y", "loop_z"]
    assert [child["id"] for child in passport["children"]] == ["loop_z"]


def test_a_rejected_row_names_rule_and_detail(recipe):
    """Nothing disappears: a filtered row has a passport too."""
    passport = lineage("tiny", "conv_112222222222")
    fate = section(passport, "What became of it")
    assert "rejected: language" in fate and "lang=en" in fate
    assert passport["readers"] == []


def test_a_document_lists_what_came_of_it_drafts_that_failed_too(recipe):
    """Whether a document was ever used is asked of the document."""
    passport = lineage("tiny", "id_aaaa0001")
    assert {child["id"] for child in passport["children"]} == {"conv_111111111111", "draft_3333"}
    came = section(passport, "What came of it")
    assert f"{SYNTHESIS}/rejects: not_a_question" in came and f"{FILTERING}/refined" in came


def test_a_rejected_draft_leads_to_its_document(recipe):
    """A draft has no `parents` column; the chunk that it carries is its parent."""
    passport = lineage("tiny", "draft_3333")
    assert [node["id"] for node in passport["nodes"]] == ["draft_3333", "id_aaaa0001"]
    assert passport["nodes"][0]["call_ids"] == ["call_2"] and "call_2" in passport["calls"]


def test_judge_verdicts_of_a_preference_are_shown(recipe):
    """A pair is only as good as its verdict."""
    verdicts = section(lineage("tiny", "pref_555555555555"), "Judge verdicts")
    assert "outcome: first" in verdicts and "margin_forward: 0.61" in verdicts


def test_manifests_of_the_steps_on_the_way(recipe):
    """Which code made it is the git commit of each step."""
    text = section(lineage("tiny", "pref_444444444444"), "Manifests")
    assert [step for step in ("01", "02", "04", "05", "06") if f"commit-{step}" in text] == ["01", "02", "04", "06"]
    (recipe / FILTERING / "manifest.json").unlink()
    assert "no manifest" in section(lineage("tiny", "pref_444444444444"), "Manifests")


def test_unknown_keys_of_meta_are_listed_and_known_ones_have_sections(recipe):
    """`meta` grows with every new stage; what this code does not know must still be seen."""
    passport = lineage("tiny", "conv_111111111111")
    assert 'oddity: {"a": 1}' in section(passport, "Other fields")
    assert "copying" in section(passport, "Checks") and "direction: deepen" in section(passport, "Evolution")


def test_a_unique_beginning_of_an_id_is_enough(recipe):
    """Twelve hexadecimal digits are for machines."""
    assert lineage("tiny", "pref_44")["id"] == "pref_444444444444"


@pytest.mark.parametrize(
    ("wanted", "content"),
    [
        ("conv_11", ["2 ids", "conv_111111111111", "conv_112222222222", "give more"]),
        ("conv_1199", ["no row conv_1199", "conv_112222222222", "draft_3333"]),
        ("", ["give more"]),
        ("a\nb" * 100, ["no row a ba b"]),
    ],
)
def test_an_unknown_or_ambiguous_id_is_one_line_with_near_ids(recipe, wanted, content):
    """A typing error should cost one more try."""
    with pytest.raises(KyaraError) as error:
        lineage("tiny", wanted)
    assert all(part in str(error.value) for part in content), str(error.value)
    assert len(str(error.value).splitlines()) == 1


class Page(HTMLParser):
    """Collects what a browser would act upon."""

    def __init__(self, page: str):
        super().__init__()
        self.tags, self.attributes, self.text = set(), [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += attributes

    def handle_data(self, data):
        self.text.append(data)


def test_hostile_text_stays_text(recipe):
    """Documents and answers are data: no tag, no template, no control character of theirs gets through."""
    passport = lineage("tiny", "conv_111111111111")
    page = Page(render_html(passport))
    assert not page.tags & {"script", "img", "link", "iframe", "object", "base", "form"}
    assert {name for name, _ in page.attributes} <= {
        "lang",
        "charset",
        "http-equiv",
        "content",
        "name",
        "id",
        "href",
        "class",
    }
    assert all(value.startswith("#row-") for name, value in page.attributes if name == "href")
    shown = "".join(page.text)
    for text in (shown, render_text(passport)):
        assert "<script>alert(1)</script> {{ 7 * 7 }} {% raw %}" in text
        assert "\x1b" not in text and "\u202e" not in text


def test_a_lone_surrogate_and_broken_or_bottomless_meta_do_not_stop_the_page(recipe):
    """JSON may escape what UTF-8 cannot hold, and a row's `meta` may not be JSON at all."""
    metas = ['{"title": "\\ud800"}', "not json {", "[" * 100_000, "[1]", "null"]
    rows = [conversation(f"odd_{n}", "?", "!", [], [], text) for n, text in enumerate(metas)]
    write_rows(recipe / "03_math_personahub" / "conversations.parquet", rows, CONVERSATION)
    for number in range(len(metas)):
        passport = lineage("tiny", f"odd_{number}")
        assert (render_text(passport) + render_html(passport)).encode()
    assert "not json {" in render_text(lineage("tiny", "odd_1"))


def test_long_text_is_cut_on_a_terminal_and_whole_on_the_page(recipe):
    """Ten thousand characters of one answer would push all else off the screen."""
    passport = lineage("tiny", "conv_112222222222")
    assert "9,400 characters left out" in render_text(passport) and "字" * 601 not in render_text(passport)
    assert "字" * 10_000 in render_html(passport)


def test_calls_that_failed_or_are_missing_are_said_to_be(recipe):
    """A call without an answer is part of the story."""
    text = render_text(lineage("tiny", "conv_112222222222"))
    assert "Call 1 of 2 · gemma-3-270m · failed" in text and "HTTP 400: context full" in text
    assert "Call 2 of 2 · not in the store" in text


def test_without_a_store_the_passport_says_so(recipe):
    """Tables are shared without the store; that is no error."""
    for name in ("calls.sqlite", "calls.sqlite-wal", "calls.sqlite-shm"):
        (recipe / name).unlink(missing_ok=True)
    assert "not at hand" in section(lineage("tiny", "conv_111111111111"), "Model calls")
    (recipe / "calls.sqlite").write_bytes(b"this is no database" * 100)
    content = section(lineage("tiny", "conv_111111111111"), "Model calls")
    assert "cannot be read" in content and "call_1" in content


def test_a_run_that_is_writing_does_not_stop_the_reading(recipe):
    """A passport is asked for while step 06 still fills the store."""
    before = (recipe / "calls.sqlite").read_bytes()
    writer = sqlite3.connect(recipe / "calls.sqlite")
    writer.execute("BEGIN IMMEDIATE")
    try:
        calls, note = read_calls(recipe / "calls.sqlite", ["call_1", "call_none"])
    finally:
        writer.rollback()
        writer.close()
    assert list(calls) == ["call_1"] and note == ""
    assert (recipe / "calls.sqlite").read_bytes() == before


def test_more_ids_than_sqlite_takes_at_once(recipe):
    """SQLite bounds the variables of one statement."""
    calls, _ = read_calls(recipe / "calls.sqlite", [f"no_{n}" for n in range(260_000)] + ["call_2"])
    assert list(calls) == ["call_2"]


def test_many_children_are_counted_not_listed(recipe):
    """A popular document would fill the page."""
    rows = [conversation(f"many_{n:04}", "?", "!", ["id_bbbb0002"], []) for n in range(80)]
    write_rows(recipe / "03_math_personahub" / "conversations.parquet", rows, CONVERSATION)
    passport = lineage("tiny", "id_bbbb0002")
    assert len(passport["children"]) == 50 and passport["more_children"] == 31
    assert "and 31 more" in render_text(passport)


def test_a_parent_in_no_table_is_named(recipe):
    """Personas stand in no table."""
    rows = [conversation("conv_maths", "3+4？", "答案是 7", ["persona_1"], [], {"persona": "茶農", "votes": {"7": 3}})]
    write_rows(recipe / "03_math_personahub" / "conversations.parquet", rows, CONVERSATION)
    text = render_text(lineage("tiny", "conv_maths"))
    assert "from persona_1 · in no table" in text and "茶農" in text


def test_a_damaged_table_and_a_missing_recipe_are_one_line(recipe):
    """Both have a fix."""
    with pytest.raises(KyaraError, match="recipe none has no tables.*run none"):
        lineage("none", "x")
    table = recipe / FILTERING / "base.parquet"
    table.write_bytes(table.read_bytes()[:200])
    with pytest.raises(KyaraError, match="base.parquet.*rerun the step") as error:
        lineage("tiny", "conv_111111111111")
    assert len(str(error.value).splitlines()) == 1


def test_the_command_prints_writes_and_fails_with_a_line(recipe, tmp_path, capsys):
    """`python -m kyara_utils.runs.lineage` is all a user sees of this."""
    page = tmp_path / "out" / "passport.html"
    assert main(["conv_111", "--recipe", "tiny", "--html", str(page)]) == 0
    assert "conv_111111111111" in capsys.readouterr().out and "conv_111111111111" in page.read_text(encoding="utf-8")
    assert main(["nothing", "--recipe", "tiny"]) == 1
    assert capsys.readouterr().err.startswith("error: no row nothing")
    assert main(["conv_111", "--recipe", "tiny", "--html", str(tmp_path)]) == 1
    assert "cannot write" in capsys.readouterr().err


def test_it_runs_as_a_module_and_into_a_closed_pipe(recipe):
    """Importing the command from its own package would warn; `| head -1` must not end in a traceback."""
    command = [sys.executable, "-W", "error", "-m", "kyara_utils.runs.lineage", "conv_111", "--recipe", "tiny"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.wait() == 0 and process.stderr.read() == b""
