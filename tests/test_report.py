"""Figures and cards: that they draw, repeat byte for byte, and say only what the rows
say."""

import json
import math
import re

import pytest
import yaml

from kyara_utils.report import (
    plots_answers,
    plots_data,
    plots_differences,
    plots_eval,
    plots_judge,
    plots_pairs,
    plots_reading,
    plots_students,
    plots_training,
    times,
)
from kyara_utils.report.cards import dataset_card, hub_name, model_card
from kyara_utils.report.style import model_colours, part_colours, picture, save_figure
from kyara_utils.runs import write_csv
from kyara_utils.runs.errors import KyaraError

MODELS = ("base", "sft", "dpo")


def interval(value, half=0.1, **names):
    """One row with value, low and high."""
    return names | {"value": value, "low": max(0, value - half), "high": value + half}


def token_rows():
    """Ten messages a part, three of the twenty longer than 1,000 tokens."""
    lengths = {"prompt": [5, 9, 20, 40, 40, 60, 80, 90, 100, 1200], "response": [100] * 8 + [1500, 4000]}
    return [
        {"source": ("維基", "maths")[i % 2], "part": part, "tokens": tokens}
        for part, values in lengths.items()
        for i, tokens in enumerate(values)
    ]


def judge_rows():
    """Eight pairs: four consistent, two tied twice, two that follow the first position."""
    verdicts = [("A", "A")] * 3 + [("B", "B")] + [("C", "C")] * 2 + [("A", "B")] * 2
    rows = []
    for i, (forward, reverse) in enumerate(verdicts):
        outcome = "chosen" if i < 4 else "tie" if i < 6 else "inconsistent"
        row = {
            "source": "rlaif",
            "margin_forward": 1.0 - i / 4,
            "margin_reverse": 0.5 - i / 4,
            "outcome": outcome,
        }
        row |= {"verdict_forward": forward, "verdict_reverse": reverse}
        rows.append(row | {"chosen_length": 100 + 20 * i, "rejected_length": 130})
    return rows


SFT = [
    {"stage": stage, "step": i, "loss": top - 0.01 * i, "learning_rate": 1e-5}
    for stage, top in (("base", 3.0), ("refined", 2.5))
    for i in range(1, 31)
]
DPO = [
    {"step": i, "loss": 0.69, "accuracy": 0.75, "margin": 0.5, "chosen_reward": -0.1, "rejected_reward": -0.6}
    | {
        f"held_out_{name}": value if i % 10 == 0 else ""
        for name, value in (("accuracy", 0.6), ("margin", 0.1), ("chosen_reward", -0.2), ("rejected_reward", -0.3))
    }
    for i in range(1, 31)
]
SCORES = [
    interval(value + 0.1 * k, model=model, benchmark=benchmark, metric=metric, n=n, unscored=0, protocol="greedy")
    for benchmark, metric, value, n in (
        ("multiple_choice", "macro", 0.253, 160),
        ("multiple_choice", "stem", 0.2, 40),
        ("maths", "strict", 0.05, 39),
    )
    for k, model in enumerate(MODELS)
]
PAIRS = [{"model_a": "dpo", "model_b": "base", "wins": 17, "ties": 9, "losses": 6, "n": 32}]
CATEGORIES = [
    interval(2.0 + i / 2 + k, category=category, model=model, n=4)
    for i, category in enumerate(("基本任務", "中文理解", "邏輯推理"))
    for k, model in enumerate(MODELS)
]
FUNNEL = [
    {"stage": "language", "source": "rag", "rows_in": 1000, "rows_out": 900},
    {"stage": "judge", "source": "rag", "rows_in": 900, "rows_out": 123},
]
HELD_OUT = [
    {"model": model, "split": "conversations", "loss": loss, "low": loss - 0.1, "high": loss + 0.1, "n": 64}
    for model, loss in (("base", 3.1), ("sft", 2.48))
]
LANGUAGES = [{"lang": "en", "rows": "250"}, {"lang": "zh-Hant", "rows": "750"}]
TAGS = [
    {"tag": "資訊查詢", "rows": 90, "refined_rows": 30},
    {"tag": "创意写作", "rows": 10, "refined_rows": 0},
]
RETRIEVAL = [interval(v, 0.05, mode=m, metric="recall@1", n=140) for m, v in (("dense", 0.62), ("hybrid", 0.71))]
DIFFERENCES = [
    {"benchmark": "maths", "model_a": a, "model_b": b, "n": 40, "difference": d, "low": d - 0.1, "high": d + 0.1}
    for a, b, d in (("sft", "base", 0.2), ("dpo", "sft", -0.05))
]
CLAIMS = [
    {"label": label, "model_a": "Kyara-2b-it", "model_b": "Gemma-2-2b-it", "difference": d, "se": se}
    | {"low": d - 1.96 * (se or 0), "high": d + 1.96 * (se or 0)}
    for label, d, se in (("MATH-L5", 4.58, 1.3), ("CRUX", 1.25, 2.08), ("undefined", 0.77, math.nan))
]
ROUNDS = [
    {"round": n, "model": model, "held_out": 4.2 + n / 20, "final_margin": margin}
    for n, model, margin in ((0, "sft", ""), (1, "dpo_round_1", 0.1), (2, "dpo", 0.2))
]
SPOKEN = [
    {"model": model, "check": check, "passed": passed, "n": 8}
    for model, check, passed in (
        ("sft", "stopped", 2), ("sft", "right_script", 8), ("dpo", "stopped", 6), ("dpo", "right_script", 8),
    )
]  # fmt: skip
SCORERS = [
    {"left": "odds", "right": "digits", "rho": 0.5, "rows": 9},
    {"left": "odds", "right": "answer tokens", "rho": -0.8, "rows": 9},
    {"left": "digits", "right": "answer tokens", "rho": "", "rows": 2},
]
SIDES = [
    {"source": source, "pairs": n, "chosen_longer": share, "warning": warning, "chosen": 80.0, "rejected": 400.0}
    | {"chosen_low": 40.0, "chosen_high": 100.0, "rejected_low": 300.0, "rejected_high": 900.0}
    for source, n, share, warning in (
        ("kyara-chinese-preference-rl-dpo-s0-30K", 10, 0.5, ""), ("spin", 40, 0.05, "DPO may learn length"),
        ("sppo", 0, 0.5, ""),
    )
]  # fmt: skip
READ = [
    interval(share, model=model, benchmark=benchmark, metric="f1", n=260, unscored=0, protocol="greedy")
    for benchmark in ("drcd", "open_book")
    for model, share in (("base", 0.4), ("dpo", 0.6), ("qwen-1.5b", 0.8))
]
TIMES = [{"step": "05_sft", "seconds": 90, "peak_gb": 2.9}, {"step": "08_eval", "seconds": 30, "peak_gb": ""}]

# function, rows, arguments, what the title must hold because the rows say so
FIGURES = [
    (plots_data.language_distribution, LANGUAGES, {}, "Traditional Chinese makes up 75 % of 1,000"),
    (
        plots_data.conversation_rounds,
        [{"rounds": 1, "rows": 60}, {"rounds": 12, "rows": 40}],
        {},
        "60 % of 100",
    ),
    (plots_data.token_lengths, token_rows(), {"max_length": 1000}, "15.0 % of 20 messages"),
    (plots_data.funnel, FUNNEL, {}, "12.3 % of 1,000 rows survive the filters; judge removes the most (777)"),
    (
        plots_data.similarity,
        [{"similarity": s} for s in (0.5, 0.7, 0.95, "")],
        {"threshold": 0.9},
        "33.3 % of 3 rows",
    ),
    (plots_data.tag_coverage, TAGS, {}, "keeps 1 of 2 tags with 30 %"),
    (
        plots_judge.judge_agreement,
        judge_rows(),
        {},
        "on 75 % (41 to 93) of 8 pairs (κ = 0.62); 67 % (39 to 86) of its 12 decisions",
    ),
    (plots_judge.length_difference, judge_rows(), {}, "50 % (15 to 85) of 4 pairs (median +0 characters"),
    (
        plots_pairs.preference_lengths,
        SIDES,
        {},
        "Warning: in 1 of 2 sources (50 pairs) DPO may learn length, most in spin, where the shorter side is chosen in "
        "95 % of 40",
    ),
    (plots_judge.scorer_agreement, SCORERS, {}, "odds goes most with answer tokens (ρ = -0.80)"),
    (plots_training.sft_curve, SFT, {}, "2.99 to 2.71 in the base stage, 2.49 to 2.21 in the refined"),
    (
        plots_training.dpo_curve,
        DPO,
        {},
        "of 30 steps DPO puts chosen above rejected in 75 % of the training pairs (60 % of held-out pairs), with",
    ),
    (
        plots_training.held_out,
        HELD_OUT,
        {},
        "lower in sft than in base on 1 of 1 split (conversations: 3.10 to 2.48)",
    ),
    (plots_students.rounds, ROUNDS, {}, "from 4.20 to 4.30 in 2 rounds of DPO; the last margin is 0.20"),
    (plots_students.generation, SPOKEN, {}, "Answers of dpo: 75 % stopped, 100 % right script"),
    (plots_training.step_times, TIMES, {}, "The run took 2.0 min; 05_sft took 75 %"),
    (plots_eval.benchmark_scores, SCORES, {}, "dpo 45.3 % against base 25.3 % (n = 160, intervals overlap)"),
    (plots_reading.reading, READ, {}, "article alone (character F1): dpo 60 %, base 40 % (n = 260)"),
    (plots_reading.reading, SCORES, {}, "No questions on documents were asked"),
    (plots_differences.paired_differences, DIFFERENCES, {}, "1 of 2 paired differences exclude zero"),
    (
        plots_differences.published_differences,
        CLAIMS,
        {},
        "1 of 2 published differences to Gemma-2-2b-it exclude zero",
    ),
    (plots_eval.retrieval, RETRIEVAL, {}, "hybrid has the best recall@1: 71 % of n = 140, dense 62 %"),
    (plots_answers.pairwise, PAIRS, {}, "dpo wins 53 % (36 to 69) and loses 19 % of 32 pairs against base"),
    (plots_answers.open_categories, CATEGORIES, {"high": 10}, "in 3 of 3 categories (mean 4.5 against 2.5)"),
]
EACH = pytest.mark.parametrize(
    ("draw", "rows", "arguments", "finding"), FIGURES, ids=[draw.__name__ for draw, *_ in FIGURES]
)


def heading(figure):
    """The title on one line."""
    return figure.get_suptitle().replace("\n", " ")


@EACH
def test_figure_states_its_finding_and_repeats(draw, rows, arguments, finding, tmp_path, recwarn):
    """A title typed in once outlives its data; changing bytes make every rerun a diff; an empty box hides a
    word."""
    figure = draw(rows, **arguments)
    assert finding in heading(figure)
    first, second = (save_figure(draw(rows, **arguments), tmp_path / name, "x") for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    # A ResourceWarning belongs to whatever test left something for the garbage collector, not to a figure.
    assert not [str(warning.message) for warning in recwarn if warning.category is not ResourceWarning]


@EACH
def test_figure_survives_thin_tables(draw, rows, arguments, finding):
    """A tiny recipe leaves tables with no row, one row or empty cells; the last notebook must not die on
    them."""
    assert heading(draw([], **arguments)).endswith("no rows")
    without = [{key: "" if isinstance(value, float) else value for key, value in row.items()} for row in rows]
    for thin in (rows[:1], without):
        draw(thin, **arguments).draw_without_rendering()


def test_csv_text_and_numbers_draw_the_same(tmp_path):
    """`csv` gives text and pandas numbers: a figure that sorts text would put 9 above 10."""
    rows = [{"lang": "en", "rows": 9}, {"lang": "zh-Hant", "rows": 10}]
    text = [{key: str(value) for key, value in row.items()} for row in rows]
    draw = plots_data.language_distribution
    first, second = (save_figure(draw(table), tmp_path, name) for table, name in ((rows, "a"), (text, "b")))
    assert first.read_bytes() == second.read_bytes()
    assert "Traditional Chinese makes up 53 %" in heading(draw(text))


def test_missing_glyph_is_an_error(tmp_path):
    """matplotlib only warns and draws an empty box."""
    with pytest.raises(KyaraError, match="Glyph"):
        save_figure(plots_data.tag_coverage([{"tag": "\U0001fae0", "rows": 1, "refined_rows": 1}]), tmp_path, "x")
    assert list(tmp_path.iterdir()) == []


def test_dollar_signs_are_text(tmp_path):
    """A tag such as `$x_` would start a formula and stop the notebook."""
    save_figure(plots_data.tag_coverage([{"tag": "$x_ $\\frac", "rows": 1, "refined_rows": 1}]), tmp_path, "x")


def test_wrong_tables_are_named():
    """A bare KeyError does not tell which table to fix."""
    with pytest.raises(KyaraError, match="no column rounds"):
        plots_data.conversation_rounds([{"round": 1, "rows": 2}])
    with pytest.raises(KyaraError, match="no number"):
        plots_training.step_times([{"step": "a", "seconds": "fast", "peak_gb": 1}])


def test_style_leaves_the_callers_settings():
    """A figure drawn in a notebook must not restyle the reader's own plots."""
    import matplotlib

    before = dict(matplotlib.rcParams)
    plots_answers.pairwise(PAIRS)
    assert dict(matplotlib.rcParams) == before


def test_model_colours_are_fixed():
    """The same model in two colours misleads across figures."""
    assert model_colours(["dpo", "base"])["dpo"] == model_colours(["sft", "dpo"])["dpo"]
    assert model_colours(["b", "a"]) == {"a": "#009E73", "b": "#CC79A7"}


def test_a_source_has_one_colour_everywhere():
    """Green for documents in one figure and for maths in the next makes a reader compare the wrong things."""
    first, second = part_colours(["math", "web", "rag"]), part_colours(["rag", "document", "math"])
    assert first["math"] == second["math"] and first["rag"] == second["rag"]
    assert len(set(first.values())) == 3 and len(set(part_colours(map(str, range(9))).values())) == 9


def test_the_funnel_shows_rules_and_names_idle_stages():
    """Bars of filters that remove nothing hide the one number that says where the rows went."""
    rows = [
        {"stage": stage, "source": "rag", "rows_in": came, "rows_out": left}
        for stage, came, left in (("written", 20, 9), ("language", 9, 9), ("near", 9, 8), ("base", 8, 8))
    ]
    rules = [
        {"stage": "written", "rule": rule, "rows": n}
        for rule, n in (("copying", 2), ("too_long", 9), ("a", 0), ("b", 0))
    ]
    figure = plots_data.funnel(rows, rules=rules)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["written", "near", "base"]
    assert any("too long 9, copying 2, a 0, 1 more rule" in text.get_text() for text in axes.texts)
    assert "Removed nothing: language." in heading(figure)


def test_lengths_name_every_source_whole_and_none_without_a_pair():
    """A label that is cut hides which published set is meant."""
    figure = plots_pairs.preference_lengths(SIDES)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["kyara-chinese-preference-\nrl-dpo-s0-30K\nn = 10", "spin\nn = 40"]
    assert [text.get_text() for text in figure.axes[1].texts] == ["50 %", "5 %: warning"]
    assert heading(plots_pairs.preference_lengths(SIDES[2:])) == "No source gave a pair"
    calm = heading(plots_pairs.preference_lengths(SIDES[:1]))
    assert calm.startswith("In none of 1 source (10 pairs) is one side the longer one often enough for a warning")


def test_metrics_are_named_whole():
    """What is measured must not be guessed from its first letters."""
    metric = "no Simplified character among distractors"
    figure = plots_eval.benchmark_scores([row | {"metric": metric} for row in SCORES])
    labels = [label.get_text() for axes in figure.axes for label in axes.get_xticklabels()]
    assert labels and all(" ".join(label.split("\n")[:-1]) == metric for label in labels)
    figure = plots_differences.paired_differences([row | {"metric": metric} for row in DIFFERENCES])
    first = figure.axes[0].get_yticklabels()[0].get_text()
    assert " ".join(first.split()) == f"maths {metric}: sft − base, n = 40" and "\n" in first


def test_one_bar_is_a_sentence():
    for draw, row in (
        (plots_data.language_distribution, {"lang": "en"}),
        (plots_data.conversation_rounds, {"rounds": 1}),
    ):
        figure = draw([row | {"rows": 7}])
        assert not figure.axes and "100 % of 7 conversations" in heading(figure)


def test_single_answers_make_no_radar():
    """With one answer a category the shape of a radar is the luck of single draws."""
    figure = plots_answers.open_categories([row | {"n": 1} for row in CATEGORIES], low=0, high=10)
    assert not figure.axes and "Fewer than 4 answers" in heading(figure)


def test_parts_of_a_published_score_are_left_to_the_table():
    """Thirty-nine rows make a figure that no screen holds."""
    parts = [row | {"label": f"AlignBench: {name}"} for row in CLAIMS[:1] for name in ("Logic", "Overall")]
    figure = plots_differences.published_differences([*CLAIMS, *parts])
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["MATH-L5", "CRUX", "AlignBench: Overall"] and "1 part of benchmarks left out" in heading(figure)


def test_a_forest_stays_readable():
    """Sixty-five lines were five screens high."""
    one = {"model_a": "sft", "model_b": "base", "n": 9, "difference": 0.1, "low": 0.0, "high": 0.2}
    measured = [("open_book", metric) for metric in ("exact", "f1", "f1, distractors")] + [("maths", "")]
    figure = plots_differences.paired_differences([{"benchmark": b, "metric": m} | one for b, m in measured * 10])
    assert len(figure.axes[0].get_yticklabels()) == 20 and "20 differences of other metrics" in heading(figure)


def test_bars_start_at_zero():
    """A cut axis turns a point into a landslide."""
    for draw, rows, arguments, _ in FIGURES:
        for axes in draw(rows, **arguments).axes:
            assert draw is not plots_students.rounds or axes.get_ylim()[0] <= 0
            bars = [patch for patch in axes.patches if hasattr(patch, "get_height")]
            if bars and axes.name == "rectilinear":
                across = len({bar.get_y() for bar in bars}) > 1 or draw.__name__ == "pairwise"
                assert (axes.get_xlim() if across else axes.get_ylim())[0] <= 0 or axes.get_xscale() == "log"


# Cards


def manifest(**changes):
    """A manifest as `Run.finish` writes it."""
    return {
        "step": "05_sft",
        "key": {"params": {"learning_rate": 0.00037, "model": "m"}},
        "outputs": {"base": {"path": "b", "sha256": "ab" * 32, "bytes": 7, "rows": 8642}},
        "counts": {"near_duplicate": 753},
        "llm": {"calls": 6413},
        "seconds": 531.0,
        "peak_memory_gb": 2.93,
        "hardware": {"cores": 2},
        "git": "abcdef",
        "versions": {"torch": "2.13.0"},
    } | changes


def front_matter(card):
    """The YAML block at the head of a card."""
    return yaml.safe_load(card.split("---\n")[1])


def test_dataset_card_holds_the_measured_numbers():
    """A count typed by hand is wrong after the next run."""
    facts = {"licence": {"license": "cc-by-4.0", "documents": "cc-by-4.0"}}
    languages = [{"lang": "zh-Hant", "rows": 4321}]
    card = dataset_card("kyara: a #1", [manifest()], languages, [("figures/f.png", "F")], facts=facts)
    assert front_matter(card)["pretty_name"] == "kyara: a #1" and front_matter(card)["license"] == "cc-by-4.0"
    for number in ("8,642", "753", "6,413", "8.8", "2.93", "4,321", "0.00037", "2.13.0"):
        assert number in card
    assert "quotes them: cc-by-4.0" in card and "Gemma Terms of Use" in card and "What it is not" in card
    assert re.findall(r"!\[.*?\]\((.*?)\)", card) == ["figures/f.png"]


def numbers_in(text):
    """All numbers of a text, without those inside names such as `05_sft`."""
    return set(re.findall(r"(?<![\w.])[0-9][0-9,.]*[0-9](?!\w)|(?<![\w.])[0-9](?![\w.])", text))


def test_model_card_holds_only_the_given_numbers():
    """A card with a number from nowhere is a claim nobody measured."""
    scores = [interval(0.371, benchmark="maths", metric="strict", model="dpo", n=40, unscored=3, protocol="p")]
    card = model_card("kyara", "dpo", "google/gemma-2-2b-it", [manifest()], scores, PAIRS)
    given = {"37.1", "27.1", "47.1", "40", "3", "17", "9", "6", "32"}
    given |= {"8.8", "2.93", "2", "0.00037", "6,413", "2.13.0"}
    assert numbers_in(card) - {"95", "4.0"} <= given
    assert {"37.1", "27.1", "47.1", "17", "32"} <= numbers_in(card)


def test_model_card_front_matter():
    """The Hub rejects a card without licence or base model, and shows the model-index as results."""
    unknown = interval(math.nan, benchmark="maths", metric="lenient", model="dpo", n=0, unscored=0, protocol="p")
    facts = {"licence": {"license": "gemma"}}
    rows = [*SCORES, unknown]
    card = model_card("kyara", "dpo", "google/gemma-2-2b-it", [manifest()], rows, datasets=["a: b"], facts=facts)
    head = front_matter(card)
    assert (head["license"], head["base_model"], head["datasets"]) == (
        "gemma",
        "google/gemma-2-2b-it",
        ["a: b"],
    )
    results = head["model-index"][0]["results"]
    metrics = [metric for result in results for metric in result["metrics"]]
    assert [metric["value"] for metric in metrics] == [45.3, 40.0, 25.0]
    assert metrics[0]["args"] == {"n": 160, "unscored": 0, "interval_95": [35.3, 55.3]}
    assert all("not a benchmark" in result["dataset"]["name"] for result in results)
    assert "are not benchmark scores" in card and "Gemma Terms of Use" in card
    assert "not a benchmark" not in model_card("k", "dpo", "b", [manifest()], SCORES, miniature=False)


def test_a_benchmark_of_its_own_data_is_no_miniature():
    """A real score filed under `miniature` is lost; a miniature filed under a real data set is a false claim."""
    real = interval(0.5, benchmark="gsm8k", metric="accuracy", model="dpo", n=1319, unscored=4, protocol="p")
    card = model_card("k", "dpo", "b", [manifest()], [*SCORES, real | {"dataset": "openai/gsm8k"}])
    found = {r["dataset"]["type"]: r["dataset"]["name"] for r in front_matter(card)["model-index"][0]["results"]}
    assert found["openai/gsm8k"] == "gsm8k" and "not a benchmark" in found["kyara-miniature/maths"]
    assert "except where a data set is named" in card and "gsm8k (openai/gsm8k)" in card
    figure = plots_eval.benchmark_scores([*SCORES, real | {"dataset": "openai/gsm8k"}])
    warned = heading(figure).partition("Miniature sets, no benchmark scores: ")[2]
    assert "maths" in warned and "gsm8k" not in warned


def test_hub_reads_the_metadata_back():
    """The Hub drops a model-index that its own library cannot parse, without a word."""
    from huggingface_hub import ModelCard

    card = ModelCard(model_card('k: "quoted" #', "dpo", "b", [manifest()], SCORES))
    assert card.data.model_name == 'k: "quoted" #'
    assert [result.metric_value for result in card.data.eval_results] == [45.3, 40.0, 25.0]


def test_card_tables_reach_the_card():
    """Published figures belong beside ours, but never into the model-index as if we had measured them."""
    row = {"table": "General", "score": "GSM8K|x", "published Kyara": "54.21", "ours [95 %]": "12.00 [9.00, 15.00]"}
    rows = [row, row | {"score": "CRUX", "ours [95 %]": "not run"}]
    seen = [interval(0.25, part="clean", benchmark="maths", metric="strict", model="dpo", n=9, unscored=1)]
    card = model_card("k", "dpo", "b", [manifest()], SCORES, card=rows, contamination=seen)
    assert (
        "| General | GSM8K\\|x | 54.21 | 12.00 [9.00, 15.00] |" in card
        and "| clean | 25.0 | 15.0 to 35.0 | 9 | 1 |" in card
    )
    assert "54.21" not in card.split("---\n")[1]
    assert "CRUX" not in card and "1 more figures of the published card have no counterpart" in card


def test_cards_refuse_what_is_missing():
    """A card with holes looks finished."""
    with pytest.raises(KyaraError, match="no scores of spin"):
        model_card("kyara", "spin", "b", [manifest()], SCORES)
    broken = manifest()
    del broken["seconds"]
    with pytest.raises(KyaraError, match="seconds"):
        dataset_card("d", [broken])


def test_cards_escape_data():
    """A tag or note with a pipe or HTML would break the table or run in the reader's browser."""
    card = dataset_card("d", [manifest(counts={"a|b\n<script>": 1})], note="<img src=x>")
    assert "a\\|b &lt;script&gt;" in card and "<script>" not in card and "<img" not in card


def test_a_cell_shows_the_same_picture_as_the_file(tmp_path):
    """A figure object that a kernel cannot draw leaves a cell empty where a finding was promised."""
    figure = plots_data.funnel([{"stage": "written", "source": "rag", "rows_in": 3, "rows_out": 2}])
    shown = picture(figure)
    assert shown.data == save_figure(figure, tmp_path, "x").read_bytes() and shown.data[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("base_model", "name"),
    [
        ("gemma-3-270m", "google/gemma-3-270m"),
        ("google/gemma-2-2b-it@main", "google/gemma-2-2b-it"),
        ("/data/models/mine", "mine"),
        ("../mine", "mine"),
    ],
)
def test_card_names_the_base_without_its_path(base_model, name):
    """A card is published; a folder on somebody's machine is not."""
    assert hub_name(base_model) == name


def test_a_notebook_says_what_the_published_run_took(tmp_path):
    """Times written by hand were right once; everything else of a notebook must stay as it is."""
    notebook = {"cells": [{"source": ["# 05 · SFT\n", "| Time (smoke) | ages |\n", "end"]}, {"source": ["x"]}]}
    row = {"step": "05_sft", "seconds": "157.3", "peak_gb": "4.24", "cores": "2"}
    found = times.with_time(notebook, row)
    line = "| Time (smoke) | 2.6 min on 2 CPU cores, peak memory 4.2 GB |\n"
    assert found["cells"][0]["source"] == ["# 05 · SFT\n", line, "end"] and found["cells"][1] == notebook["cells"][1]
    assert times.time_row({"step": "x", "seconds": "8.6", "peak_gb": "0.25"}) == (
        "| Time (smoke) | 9 s, peak memory 0.2 GB |\n"
    )
    with pytest.raises(KyaraError, match="no line `| Time`"):
        times.with_time({"cells": [{"source": ["# 05"]}]}, row)
    (tmp_path / "figures/data").mkdir(parents=True)
    (tmp_path / "notebooks").mkdir()
    write_csv(tmp_path / times.TABLE, [row])
    (tmp_path / "notebooks/05_sft.ipynb").write_text(json.dumps(notebook, ensure_ascii=False))
    assert times.write_times(tmp_path) == ["05_sft"] and times.write_times(tmp_path) == []
    assert json.loads((tmp_path / "notebooks/05_sft.ipynb").read_text()) == found
