"""The offline report: every row with its story, every number rounded to what it can bear, and data that stays data."""

import re

import pytest
from run_folder import HOSTILE, finished_run

from kyara_utils.__main__ import main
from kyara_utils.report.site import entries, executed, front, readable, stories
from kyara_utils.report.site.browser import fold_table
from kyara_utils.report.site.publish import cited, render, write_report
from kyara_utils.report.site.shards import ShardWriter, bucket_of, read_shard, write_buckets, write_shard
from kyara_utils.runs import read_rows
from kyara_utils.runs.finished import finished
from kyara_utils.text.normalise import search_text


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run of forty rows, where the package looks for runs."""
    monkeypatch.setenv("KYARA_RUNS", str(tmp_path))
    return finished_run(tmp_path / "tiny", 40)


def stories_of(folder):
    """{id: story page} of a written report."""
    ids = read_shard(folder / "data/index.js")["columns"]["id"]
    pages = [page for path in sorted(folder.glob("data/stories-*.js")) for page in read_shard(path)]
    return dict(zip(ids, pages, strict=True))


def words(page):
    """The text of a page, its markup left out."""
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


def test_every_row_of_the_run_has_a_story(run):
    """A report that leaves rows out looks like a run that made fewer."""
    folder = write_report("tiny").parent
    index = read_shard(folder / "data/index.js")
    tables = (
        "02_rag_sft_synthesis/rejects",
        "04_filtering/base",
        "04_filtering/rejects",
        "05_sft/rejects",
        "06_dpo_pair_judging/preferences",
        "06_dpo_pair_judging/held_out",
    )
    wanted = [row["id"] for name in tables for row in read_rows(run / f"{name}.parquet")]
    assert sorted(index["columns"]["id"]) == sorted(wanted) and index["rows"] == len(wanted)
    kinds = index["columns"]["kind"]
    assert {kinds["values"][code] for code in kinds["codes"]} == {"training row", "reject", "pair"}


def test_a_story_tells_the_way_of_a_row(run):
    """Document, question, evolution, search, verdict, digest, answer, checks and fate, in this order."""
    row = read_rows(run / "04_filtering/base.parquet")[2]
    page = words(stories_of(write_report("tiny").parent)[row["id"]])
    parts = (
        "Document", "Question 茶？", "deepen · taken over 水溫？", "烏龍茶 水溫", "relevant, log-odds 0.7", "Digests",
        "Documents shown", "水溫以攝氏九十度為宜", "citations exist", "02_rag_sft_synthesis written",
        "04_filtering kept in the base set", "chosen for the refined set", "05_sft trained on", "made into the pair",
    )  # fmt: skip
    places = [page.index(part) for part in parts]
    assert places == sorted(places)


def test_held_out_rows_are_not_called_trained_on(run):
    told = stories_of(write_report("tiny").parent)
    for step, reader in (("05_sft", "05_sft"), ("06_dpo_pair_judging", "07_dpo")):
        page = words(told[read_rows(run / step / "held_out.parquet")[0]["id"]])
        assert "held out, never trained on" in page and f"{reader} trained on" not in page


def test_a_reject_names_rule_stage_and_finding(run):
    row = read_rows(run / "02_rag_sft_synthesis/rejects.parquet")[0]
    page = words(stories_of(write_report("tiny").parent)[row["id"]])
    assert "copying in 02_rag_sft_synthesis, at the stage checks" in page and "抄了三句" in page and "草稿" in page


def test_citations_lead_to_their_passage():
    page = cited('以九十度為宜【id_0a1b2c3d】。<b>"【id_x】')
    assert '<button class="cite" data-cite="id_0a1b2c3d">【id_0a1b2c3d】</button>' in page
    assert "&lt;b&gt;&quot;【id_x】" in page


def test_no_text_of_the_data_becomes_markup(run):
    """Documents and model output are data: a script in them must not run where somebody reads about it."""
    folder = write_report("tiny").parent
    pages = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.html")} | stories_of(folder)
    assert sum("owned" in page for page in pages.values()) >= 4
    for name, page in pages.items():
        assert "<script>" not in page and "<img src=x" not in page and "49" not in page.partition("owned")[2][:80], name
    assert HOSTILE not in "".join(pages.values())


def test_the_folder_asks_for_nothing_outside(run):
    folder = write_report("tiny").parent
    for path in folder.glob("*.html"):
        for target in re.findall(r'(?:src|href)="([^"#]+)"', path.read_text(encoding="utf-8")):
            assert target.startswith("data:") or (folder / target).is_file(), f"{path.name}: {target}"
    assert len(list(folder.glob("*.html"))) == 7


def test_a_run_that_is_half_done_shows_its_half(run):
    import shutil

    for name in ("04_filtering", "05_sft", "06_dpo_pair_judging", "07_dpo", "08_eval", "09_plots"):
        shutil.rmtree(run / name)
    folder = write_report("tiny").parent
    kinds = read_shard(folder / "data/index.js")["columns"]["kind"]["values"]
    assert kinds == ["training row", "reject"] and "has not finished" in (folder / "evaluation.html").read_text()


def test_the_first_page_names_the_judges(run):
    assert "gemma-3-270m" in dict(front.asked(finished("tiny")))["judges"]


def test_the_command_names_the_page(run, capsys):
    assert main(["report", "tiny"]) == 0 and "report/index.html" in capsys.readouterr().out
    assert main(["report", "nothing"]) == 1 and "no recipe nothing" in capsys.readouterr().err


def test_of_many_rows_an_even_sample_is_shown(run, monkeypatch):
    """Three million rows fit no browser; the page must say that it shows a part."""
    monkeypatch.setattr(entries, "FEW", 2)
    folder = write_report("tiny", limit=10).parent
    shown = read_shard(folder / "data/index.js")["rows"]
    assert 8 <= shown <= 16 and f"{shown} of 45 rows" in words((folder / "rows.html").read_text(encoding="utf-8"))
    assert all(table.kept == table.rows for table in entries.shown_tables(finished("tiny"), 10**9))


def test_shards_are_found_and_repeat(tmp_path):
    writer = ShardWriter(tmp_path, "s", 2)
    for item in "abc":
        writer.add(item)
    writer.close()
    assert [read_shard(tmp_path / f"s-{n}.js") for n in (0, 1)] == [["a", "b"], ["c"]]
    write_shard(tmp_path, "x", {"臺": 1})
    first = (tmp_path / "x.js").read_bytes()
    write_shard(tmp_path, "x", {"臺": 1})
    assert (tmp_path / "x.js").read_bytes() == first
    write_buckets(tmp_path, "p", [("id_1", 1), ("id_2", 2)], 3)
    assert read_shard(tmp_path / f"p-{bucket_of('id_2', 3)}.js")["id_2"] == 2


def test_the_search_form_is_the_packages_own():
    """A search in the page and one in the index must agree on which characters are the same."""
    table = fold_table()
    fold = str.maketrans(table["from"], table["to"])
    for text in ("臺灣的軟體", "台湾的软件", "ＡＢＣ abc", "看著"):
        assert text.translate(fold) == search_text(text)
    assert "臺灣".translate(fold) == "台湾"


@pytest.mark.parametrize(
    ("share", "n", "text"), [(0.3125, 48, "31 %"), (0.3125, 1319, "31.2 %"), ("", 48, "–"), (-0.1, 9, "−10 %")]
)
def test_digits_are_those_that_n_can_bear(share, n, text):
    assert readable.percent(share, n) == text


@pytest.mark.parametrize(("p", "text"), [((0.5, 0.01), "0.50"), (("nan", 0.01), "0.01"), (("", ""), "–")])
def test_a_difference_without_mcnemar_has_the_bootstraps_p(p, text):
    row = {"benchmark": "a", "model_a": "x", "model_b": "y", "difference": 0.1, "n": 9, "low": 0.05, "high": 0.2}
    assert readable.difference_table([row | dict(zip(("p_mcnemar", "p"), p, strict=True))])[0]["p"] == text


def test_a_long_reason_becomes_a_note():
    table = readable.card_tables(
        [{"table": "t", "score": "a", "ours": f"not run: {'because ' * 9}"}, {"table": "t", "score": "b", "ours": "1"}]
    )
    assert table[0]["rows"][0][1] == {"text": "not run", "note": 1} and table[0]["notes"][0].startswith("because")


def test_what_a_story_makes_of_every_kind_of_row():
    maths = {"problem": "三加四？", "solution": "七", "persona": "老師", "check": "computed", "calls": []}
    told = stories.story_of("reject", {"row": maths, "rule": "wrong_sum", "detail": "8"})
    assert [turn["content"] for turn in told["turns"]] == ["三加四？", "七"] and told["source"] == "math"
    judged = {
        "prompt": "茶？",
        "first": {"model": "a", "text": "甲"},
        "second": {"model": "b", "text": "乙"},
        "verdict": {"outcome": "tie"},
    }
    told = stories.story_of("reject", {"row": judged, "rule": "tie", "detail": None})
    assert [choice["model"] for choice in told["choices"]] == ["a", "b"] and stories.verdict_word(told) == "judge: tie"
    assert (
        stories.story_of("reject", {"row": "not JSON", "rule": "broken", "detail": ""})["document_text"] == "not JSON"
    )


def test_a_hit_that_nobody_judged_is_not_called_irrelevant():
    """Rows with short answers are not judged; a draft may have ended before its hits were."""
    hits = [{"id": "id_1", "title": "茶", "relevant": None}, {"id": "id_2", "title": "酒"},
            {"id": "id_3", "title": "水", "relevant": False}]  # fmt: skip
    told = stories.story_of("training row", {"question": "甲？", "hits": hits})
    page = render("story", id="x", kind="training row", step="s", fate=[], **told)
    assert page.count("not judged") == 2 and page.count("not relevant") == 1


def test_a_document_that_was_left_out_asks_nothing():
    """An empty answer under a file's name reads as if a model had failed."""
    row = {"row": {"id": "doc_1", "path": "food/a.md"}, "rule": "front_matter", "detail": "1 taken off"}
    told = stories.story_of("reject", row)
    page = words(render("story", id="doc_1", kind="reject", step="01_corpus_indexing", fate=[], **told))
    assert "front_matter in 01_corpus_indexing: 1 taken off" in page
    assert not re.search(r"\b(Question|Answer)\b", page)


def test_notebooks_show_a_progress_lines_last_state_and_no_dead_link():
    output = executed._output({"text": ["\x1b[31m 50%\r100%\x1b[0m\n"]})
    assert output["text"] == "100%"
    page = executed.markdown("[a](07_dpo.ipynb) [b](08_eval.ipynb) `x < y` <b>", {"07_dpo"})
    assert page == '<p><a href="07_dpo.html">a</a> b <code>x &lt; y</code> &lt;b&gt;</p>\n'
