"""The card's tables with ours beside them, and the split of scores by contamination."""

import pytest

from kyara_utils.evaluation import summary
from kyara_utils.evaluation.card import OURS, PUBLISHED, card_tables, load_published
from kyara_utils.evaluation.claims import check_differences, check_sums
from kyara_utils.evaluation.contamination import CLEAN, DIRTY, SHORT, seen_in, split_scores, training_texts
from kyara_utils.evaluation.miniature.items import benchmark_names, benchmark_texts
from kyara_utils.evaluation.report_tables import (
    card_markdown,
    claims_markdown,
    contamination_markdown,
    evaluation_page,
    markdown,
)
from kyara_utils.runs.errors import KyaraError

SCORE = {"benchmark": "gsm8k", "metric": "strict", "model": "dpo", "value": 0.1, "n": 1319, "unscored": 66}
SCORE |= {"low": 0.08, "high": 0.2, "protocol": "greedy"}
DIFFERENCE = {"benchmark": "gsm8k", "model_a": "dpo", "model_b": "base", "difference": 0.02, "low": -0.05, "high": 0.09}


def line(rows, score, table=""):
    """The card's line with this label."""
    return next(r for r in rows if r["score"] == score and table in r["table"])


# The card


def test_lines_follow_the_card_and_nothing_is_invented():
    """A table in another order is compared with difficulty; a number where nothing ran is a false claim."""
    rows = card_tables([])
    assert list(dict.fromkeys(r["table"].split(",")[0] for r in rows)) == [
        "General benchmarks", "Open LLM Leaderboard", "Alignment benchmarks", "AlignBench",
    ]  # fmt: skip
    assert len(rows) == 11 + 6 + 5 + 11 + 11
    assert [r["score"] for r in rows[:2]] == ["TMMLU+", "TMMLU+: STEM"]
    assert line(rows, "Chinese-Reason-Bench")[OURS] == "left out: never defined"
    assert {r[OURS] for r in rows if r["score"] != "Chinese-Reason-Bench"} == {"not run"}
    assert not any(r[name] for r in rows for name in ("paired difference", "n", "unscored %", "judge"))


def test_published_columns_hold_the_right_model():
    """AlignBench was run in two scripts, and its ChatGPT is another version: columns mixed up look plausible."""
    rows = card_tables([])
    overall = [line(rows, "AlignBench: Overall", script) for script in ("Traditional", "Simplified")]
    assert [r["published Kyara"] for r in overall] == ["6.44", "5.90"]
    assert all((r["published Gemma"], r["published ChatGPT-3.5"]) == ("5.64", "5.91") for r in overall)
    assert line(rows, "MT-Bench")["published ChatGPT-3.5"] == "8.32"
    assert line(rows, "IFEval (0-shot)")["published Gemma"] == ""


def test_a_measured_line_shows_interval_n_unscored_and_difference():
    """A score without these cannot be set beside a published one."""
    found = line(card_tables([SCORE], [DIFFERENCE | {"n": 1200}]), "GSM8K")
    assert found[OURS] == "10.00 [8.00, 20.00]" and found["published Kyara"] == "54.21"
    assert found["paired difference"] == "+2.00 [-5.00, +9.00] to base, n 1200"
    assert (found["n"], found["unscored %"]) == ("1,319", "5.0")


def test_a_part_of_a_benchmark_says_so():
    """Fifty items in the place of 1,319 would look like the benchmark."""
    assert line(card_tables([SCORE | {"n": 50}]), "GSM8K")["n"] == "50 of 1,319"


def test_ratings_keep_their_scale_and_name_their_judge():
    """8.1 points shown as 810 %, or set beside GPT-4's judgement unmarked, mislead."""
    score = SCORE | {"benchmark": "mt_bench", "metric": "score", "value": 4.5, "low": 4, "high": 5, "n": 80}
    found = line(card_tables([score | {"judge": "gemma-3-270m"}]), "MT-Bench")
    assert found[OURS] == "4.50 [4.00, 5.00]" and found["judge"] == "gemma-3-270m; not the card's"


def test_miniatures_cannot_stand_in_a_benchmarks_row():
    """A miniature that shares a name with a benchmark would fill its cell."""
    published = {r["benchmark"] for r in load_published()}
    assert not published & {*benchmark_names(), "pairwise"}
    minis = [SCORE | {"benchmark": name, "metric": "macro"} for name in benchmark_names()]
    assert {r[OURS] for r in card_tables(minis)} == {"not run", "left out: never defined"}


def test_other_models_scores_stay_out():
    """The base model's score in the column `ours` would hide what training did."""
    assert line(card_tables([SCORE | {"model": "base"}]), "GSM8K")[OURS] == "not run"


def test_reasons_are_shown():
    """`not run` alone does not tell the reader what to bring."""
    rows = card_tables([], reasons={"crux": "no file crux.jsonl", "gsm8k": "not run: offline"})
    assert line(rows, "CRUX")[OURS] == "not run: no file crux.jsonl" and line(rows, "GSM8K")[OURS] == "not run: offline"


def test_tmmlu_stands_beside_the_card_only_when_it_ran():
    """It is the exam that anybody may have, but the card does not print it."""
    assert not any(r["table"] == "Beside the card" for r in card_tables([]))
    rows = card_tables([SCORE | {"benchmark": "tmmlu", "metric": "macro"}])
    assert rows[-1]["table"] == "Beside the card" and rows[-1]["published Kyara"] == ""


def test_a_damaged_table_is_named(tmp_path):
    """A missing column would show up as a KeyError far away."""
    path = tmp_path / "p.csv"
    path.write_text("benchmark,value\ngsm8k,1\n")
    with pytest.raises(KyaraError, match="p.csv:2"):
        load_published(path)
    path.write_text(PUBLISHED.read_text(encoding="utf-8").replace("41.98", "nan"), encoding="utf-8")
    with pytest.raises(KyaraError, match="p.csv:2"):
        load_published(path)
    with pytest.raises(KyaraError, match="reinstall"):
        load_published(tmp_path / "none.csv")


def test_tables_as_markdown():
    """Escaping forgotten once breaks every table after it; a column lost is a figure lost."""
    text = card_markdown(card_tables([SCORE]))
    assert text.count("### ") == 5 and "| GSM8K | 54.21 | 51.63 | 10.00 [8.00, 20.00] |" in text
    published = load_published()
    claims = claims_markdown(check_differences(published), check_sums(published))
    assert "| AlignBench: Reasoning average | ChatGPT-3.5-0613 | 5.00 | 5.085 | -0.085 | slip |" in claims
    assert markdown([{"a": "x|y\n<b>", "n": 0.5}]) == "| a | n |\n| --- | ---: |\n| x\\|y &lt;b&gt; | 0.50 |\n"
    assert markdown([], empty="none") == "none\n"
    assert evaluation_page("T", [("A", "body\n")]) == "# T\n\n## A\n\nbody\n"


# Contamination

ITEMS = {
    "traditional": "請問臺灣最高的山是哪一座山?它的高度大約是多少公尺?",
    "english": "A farmer has seventeen sheep and sells nine of them; how many sheep remain on the farm afterwards?",
    "medium": "水在攝氏幾度時會沸騰?",
    "short": "一加一?",
}


def test_a_leak_in_the_other_script_and_width_is_found():
    """A word n-gram sees nothing in Chinese, and an exact match nothing across scripts."""
    training = ["答:请问台湾最高的山是哪一座山？它的高度大约是多少公尺？好。", "水在攝氏幾度時會沸騰"]
    shares = seen_in({"": ITEMS}, training)[""]
    assert shares["traditional"] == 1.0 and shares["medium"] == 1.0
    assert shares["english"] == 0.0 and shares["short"] is None


def test_a_partial_leak_gives_a_share():
    """Half a question copied is not none."""
    shares = seen_in(
        {"": ITEMS}, ["He says: A farmer has seventeen sheep and sells nine of them; how many sheep run?"]
    )[""]
    assert 0 < shares["english"] < 0.5


def test_template_text_is_no_leak():
    """An instruction that every item repeats would mark the whole benchmark as seen."""
    template = "請閱讀下面的題目並且只回答一個英文字母即可"
    items = {str(i): f"{template}。{ITEMS['traditional']}第{i}題" for i in range(3)} | {
        f"other{i}": f"{template}，第{i}題問的是甲乙丙丁戊己庚辛哪一個比較大呢{'零一二三'[i]}" for i in range(4)
    }
    assert set(seen_in({"": items}, [template])[""].values()) == {0.0}


def test_too_short_a_gram_is_refused():
    """Three tokens match any text."""
    with pytest.raises(KyaraError, match="n=3"):
        seen_in({"": ITEMS}, [], n=3)


def test_bundled_items_can_all_be_checked():
    """An item that is too short to recognise leaves a hole in the check."""
    shares = seen_in({"": benchmark_texts()}, [])[""]
    assert set(shares.values()) == {0.0} and len(shares) == 626


def test_training_texts_come_from_both_kinds_of_rows():
    """Preferences are training text too."""
    rows = [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": None}]},
        {"prompt": [{"content": "b"}], "chosen": [{"content": "c"}], "rejected": [{"content": "d"}]},
    ]
    assert list(training_texts(rows)) == ["a", "", "b", "c", "d"]


def test_parts_add_up_and_are_scored_like_the_whole():
    """A split that loses items, or scores them by another rule, compares nothing."""
    rows = [
        {"benchmark": "maths", "model": "dpo", "id": f"m{i}", "strict": "correct" if i < 4 else "wrong",
         "lenient": "correct" if i < 6 else "unscored"}
        for i in range(10)
    ]  # fmt: skip
    shares = {f"m{i}": (0.5 if i < 4 else 0.0) for i in range(9)}
    found = split_scores(rows, shares, summary.summarise_maths)
    strict = {r["part"]: r for r in found if r["metric"] == "strict"}
    assert {part: (r["value"], r["n"]) for part, r in strict.items()} == {
        DIRTY: (1.0, 4),
        CLEAN: (0.0, 5),
        SHORT: (0.0, 1),
    }
    lenient = next(r for r in found if r["metric"] == "lenient" and r["part"] == CLEAN)
    assert lenient["unscored"] == 3 and lenient["low"] < lenient["value"] == 0.4 < lenient["high"]
    assert "| maths | strict | dpo | seen in training | 4 | 0 | 100.00 |" in contamination_markdown(found)
    assert contamination_markdown([]) == "No scored item.\n"
