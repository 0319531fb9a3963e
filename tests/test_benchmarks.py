"""Answer-scored benchmarks: the path from questions to the card's cells, on stored answers."""

import gzip
import json
from pathlib import Path

import pytest

from kyara_utils.evaluation.backends.backend import ReplayBackend
from kyara_utils.evaluation.benchmark import Benchmark, Questions, Source
from kyara_utils.evaluation.card import OURS, card_tables, load_published
from kyara_utils.evaluation.evaluate import differences, load, summarise
from kyara_utils.evaluation.registry import benchmarks, get
from kyara_utils.evaluation.scored.harness import LEADERBOARD, normalise
from kyara_utils.runs.errors import KyaraError

TRUTH = Path(__file__).parents[1].parent / "shared" / "ground_truth"
needs_truth = pytest.mark.skipif(not TRUTH.is_dir(), reason=f"{TRUTH} is not there")


def line(rows, score, table=""):
    """The card's line with this label."""
    return next(r for r in rows if r["score"] == score and table in r["table"])


def run_benchmark(backend, name, items, model):
    """Ask and score one registered benchmark."""
    one = get(name)
    return one.score_all(Questions(items), {model: one.ask(backend, items, 4096)}, None)


def test_json_benchmarks_run_and_are_scored():
    """Each benchmark asks for another field, and its scorer must get the item's own key and choices."""
    redux = {"id": "a", "question": "q", "A": "one", "B": "two", "C": "three", "D": "four", "answer": "B"}
    grid = {"header": ["House", "Name"], "rows": [["1", "Ann"], ["2", "Bob"]]}
    solved = {"solution": {"House 1": {"Name": "ann"}, "House 2": {"Name": "Bob"}}}
    cases = {
        "gsm8k": ({"id": "a", "question": "q", "answer": "18"}, {"answer": "$18"}),
        "math_l5": ({"id": "a", "question": "q", "answer": "1/2"}, {"answer": "0.5"}),
        "crux": ({"id": "a", "code": "def f(x): return x", "input": "'{x}'", "answer": "'{x}'"}, {"answer": "{x}"}),
        "mmlu_redux": (redux, {"answer": "B"}),
        "zebra_logic": ({"id": "a", "puzzle": "p", "size": "2*1", "answer": grid}, solved),
    }
    for name, (item, responses) in cases.items():
        (row,) = run_benchmark(ReplayBackend([{"id": "a", "text": json.dumps(responses)}]), name, [item], "dpo")
        assert (row["outcome"], row["lenient"]) == ("correct", "correct"), name
        (lost,) = run_benchmark(ReplayBackend([]), name, [item], "dpo")
        assert lost["outcome"] == lost["lenient"] == "unscored" and lost["reason"] == "no stored answer"


def test_a_corrected_key_that_is_no_option_cannot_be_met_by_one():
    """MMLU-Redux keeps rows whose right letter the question lacks; A to D are then all wrong."""
    item = {"id": "a", "question": "q", "A": "1", "B": "2", "C": "3", "D": "4", "answer": "E"}
    for responses, outcome in (("A", "wrong"), ("E", "correct")):
        (row,) = run_benchmark(
            ReplayBackend([{"id": "a", "text": f'{{"answer": "{responses}"}}'}]), "mmlu_redux", [item], "m"
        )
        assert row["outcome"] == outcome


def test_prompts_carry_the_question_and_the_shape_that_is_scored():
    """A puzzle whose houses are not named in the shape, or code that is not shown, cannot be answered."""
    asked = []

    class Spy:
        def generate(self, asks, max_tokens, stop=()):
            asked.extend(ask["messages"][-1]["content"] for ask in asks)
            return [{"text": None, "finish_reason": "", "error": "x"} for _ in asks]

    grid = {"header": ["House", "Name"], "rows": [["1", "Ann"], ["2", "Bob"]]}
    run_benchmark(Spy(), "zebra_logic", [{"id": "a", "puzzle": "{{ p }}", "answer": grid}], "m")
    run_benchmark(Spy(), "crux", [{"id": "a", "code": "def f(x): return {x}", "input": "'{y}'", "answer": "1"}], "m")
    assert "{{ p }}" in asked[0] and '"House 2": {"Name": "..."}' in asked[0]
    assert "def f(x): return {x}\n\nf('{y}')" in asked[1] and '"answer"' in asked[1]


def exam_rows(outcomes):
    """Exam rows from {subject: outcomes}."""
    return [
        {
            "benchmark": "tmmlu_plus",
            "model": "dpo",
            "id": f"{subject}/{i}",
            "subject": subject,
            "outcome": o,
            "lenient": o,
        }
        for subject, values in outcomes.items()
        for i, o in enumerate(values)
    ]


def test_tmmlu_plus_is_the_mean_of_its_groups():
    """Micro averaging, or a mean over categories, moves TMMLU+ by points; the card takes the mean of four groups."""
    right, wrong = "correct", "wrong"
    rows = exam_rows(
        {"physics": [right] * 4, "engineering_math": [wrong] * 2, "taxation": [right], "music": [wrong] * 9}
    )
    scores = {row["metric"]: row for row in summarise(rows)}
    assert scores["STEM"]["value"] == 0.5 and scores["humanities"]["value"] == 1 and scores["other"]["value"] == 0
    assert scores["macro"]["value"] == pytest.approx(0.5) and scores["macro"]["n"] == 16
    assert scores["macro"]["low"] < 0.5 < scores["macro"]["high"] and "social sciences" not in scores
    assert scores["macro"]["dataset"] == "ikala/tmmluplus" and "mean of 3 groups" in scores["macro"]["protocol"]


def test_interval_of_the_mean_shrinks_with_its_parts():
    """MOVER: four groups of equal width w give a mean of width w / 2; adding widths would give w."""
    sure = summarise(exam_rows({name: ["correct", "wrong"] * 50 for name in ("physics", "taxation")}))
    parts = {row["metric"]: row["high"] - row["value"] for row in sure}
    assert parts["macro"] == pytest.approx(parts["STEM"] / 2**0.5, rel=0.02)


def test_data_that_is_not_there_has_a_reason(tmp_path, monkeypatch):
    """A benchmark left out in silence looks like one that does not exist."""
    monkeypatch.delenv("KYARA_EVAL_DATA", raising=False)
    monkeypatch.setenv("KYARA_CACHE", str(tmp_path / "cache"))
    (tmp_path / "gsm8k.jsonl").write_text(
        '{"question": "q", "answer": "#### 4"}\n{"question": "r", "answer": "#### 5"}\n'
    )
    data = load(Source(tmp_path.name, tmp_path.parent, limit=1))
    assert [(name, len(data.questions[name].items)) for name in data.real] == [("gsm8k", 1)]
    assert data.reasons["crux"].startswith(f"not run: no crux in {tmp_path.name},")
    assert "gsm8k: 1 items (2 items where 1319 are published)" in data.plan().splitlines()
    assert not load(Source("", tmp_path)).real
    rows = card_tables([], reasons=data.reasons)
    missing = [row for row in rows if row["score"] not in ("GSM8K", "Chinese-Reason-Bench")]
    assert all(row[OURS].startswith("not run: ") for row in missing)


def test_a_limit_for_a_set_that_does_not_exist_is_one_line():
    """A slip in the name would silently run all items."""
    with pytest.raises(KyaraError, match="no bundled set multiplechoice; known: .*multiple_choice"):
        load(Source(miniature={"multiplechoice": 2}))


def test_differences_need_items_that_both_models_scored():
    """A small model whose answers cannot be read would stop the run, or be compared on nothing."""
    rows = [
        {"benchmark": name, "model": model, "id": str(i), "outcome": outcome}
        for name, model, outcome in (
            ("gsm8k", "dpo", "correct"),
            ("gsm8k", "base", "wrong"),
            ("crux", "dpo", "correct"),
        )
        for i in range(8)
    ]
    rows += [row | {"benchmark": "crux", "model": "base", "outcome": "unscored"} for row in rows[:8]]
    (found,) = differences(rows, ["base", "sft", "dpo"])
    assert (found["benchmark"], found["difference"], found["n"]) == ("gsm8k", 1.0, 8)


def test_an_exams_differences_are_weighted_like_its_average():
    """The difference of pooled items beside a mean of groups would be of another quantity, even of another sign."""
    right, wrong = ["correct"], ["wrong"]
    good = exam_rows({"physics": right * 2, "music": wrong * 18})
    poor = [row | {"model": "base"} for row in exam_rows({"physics": wrong * 2, "music": wrong * 14 + right * 4})]
    found = {row["metric"]: row for row in differences([*good, *poor], ["base", "dpo"])}
    scores = {m: {r["metric"]: r["value"] for r in summarise(rows)} for m, rows in (("a", good), ("b", poor))}
    assert set(found) == {"macro", "STEM", "other"}
    for metric, row in found.items():
        assert row["difference"] == pytest.approx(scores["a"][metric] - scores["b"][metric]), metric
    assert found["macro"]["difference"] == pytest.approx((1 - 4 / 18) / 2) and found["macro"]["n"] == 20
    rows = card_tables(summarise(good), list(found.values()))
    assert line(rows, "TMMLU+: STEM")["paired difference"].startswith("+100.00 [")
    assert line(rows, "TMMLU+")["paired difference"].startswith("+38.89 [")


def harness_row(task, raw, choices, **metrics):
    """A row of `run_harness`."""
    ends = {"low": raw - 0.1, "high": raw + 0.1}
    norm = normalise(raw, choices)
    return (
        {"task": task, "raw": raw, "normalised": norm, "choices": choices, "n": 100, "unscored": 1}
        | ends
        | {"metrics": metrics}
    )


def test_leaderboard_columns_are_normalised_like_the_card():
    """Raw 32.5 % of four choices is 10; the card's GPQA 2.24 is of that kind, and raw would look ten times better."""
    rows = [harness_row(f"leaderboard_gpqa_{name}", raw, 4) for name, raw in (("main", 0.325), ("diamond", 0.25))]
    rows = [row | {"benchmark": "gpqa", "model": "dpo"} for row in rows]
    ifeval = harness_row("leaderboard_ifeval", 0.5, 0, inst_level_strict_acc=0.6)
    scores = summarise([*rows, ifeval | {"benchmark": "ifeval", "model": "dpo"}])
    gpqa, ifeval = (next(s for s in scores if s["benchmark"] == name) for name in ("gpqa", "ifeval"))
    assert gpqa["value"] == pytest.approx(0.05) and gpqa["n"] == 200 and 0 <= gpqa["low"] < 0.05 < gpqa["high"]
    assert ifeval["value"] == pytest.approx(0.55)
    assert (ifeval["low"], ifeval["high"]) == pytest.approx((0.45, 0.65))
    assert line(card_tables(scores), "GPQA (0-shot, normalised)")[OURS].startswith("5.00 [")


def test_every_line_of_the_card_names_a_benchmark_of_the_registry():
    """A name written another way would leave its cell empty for ever."""
    known = {name.removesuffix("_cht").removesuffix("_chs") for name in benchmarks()}
    assert {r["benchmark"] for r in load_published()} - known == {"chinese_reason_bench"} and known > set(LEADERBOARD)


def test_the_harness_runs_one_task_a_column_and_needs_the_models_folder(monkeypatch):
    """A model behind an endpoint has no weights to give: its column stays empty, and the others are asked."""
    seen = []

    def run_harness(model, tokenizer, tasks, limit, *_):
        seen.append((model, tasks, limit))
        if model == "offline":
            raise KyaraError("the harness cannot run it: no data")
        return [harness_row(tasks[0] + "_main", 0.625, 4)]

    monkeypatch.setattr("kyara_utils.evaluation.scored.leaderboard.run_harness", run_harness)
    monkeypatch.setattr("kyara_utils.evaluation.scored.leaderboard.find_spec", lambda name: name)
    one = get("gpqa")
    questions = one.load(Source("hub", limit=7))
    backends = {name: ReplayBackend([]) for name in ("dpo", "api", "offline")}
    for name, model in (("dpo", "model"), ("offline", "offline")):
        backends[name].weights = lambda model=model: (model, "tokenizer")
    answers = {name: one.ask(backend, questions.items, 9) for name, backend in backends.items()}
    (score,) = one.summarise(one.score_all(questions, answers, None))
    assert seen[0] == ("model", ["leaderboard_gpqa"], 7) and "folder" in answers["api"][0]["error"]
    assert answers["offline"][0]["error"].endswith("no data"), "the other columns go on"
    assert (score["model"], score["value"]) == ("dpo", pytest.approx(0.5))


def test_question_text_holds_what_can_leak():
    """An answer key is short and common; the question is what training text would quote."""
    assert Benchmark().text({"id": "a", "question": "q", "A": 1, "answer": "B"}) == "q\n1"


@needs_truth
@pytest.mark.parametrize(("folder", "name"), [("gsm", "gsm8k"), ("math-l5", "math_l5"), ("crux", "crux")])
def test_stored_answers_give_the_cards_baseline(folder, name):
    """Gemma-2-2b-it's own outputs must come out at the card's column, through the path that our models take."""
    with gzip.open(TRUTH / "zeroeval" / folder / "gemma-2-2b-it.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(text) for text in file]
    items = [{"id": r["id"], "question": "", "code": "", "input": "", "answer": r["answer"]} for r in rows]
    backend = ReplayBackend([{"id": r["id"], "text": r["output"]} for r in rows])
    scores = summarise(run_benchmark(backend, name, items, "gemma-2-2b-it"))
    published = next(
        r
        for r in load_published()
        if r["benchmark"] == name and r["model"] == "Gemma-2-2b-it" and r["metric"] == "strict"
    )
    shown = line(card_tables(scores, model="gemma-2-2b-it"), published["label"])
    assert float(shown[OURS].split()[0]) == pytest.approx(float(published["value"]), abs=0.005)


@needs_truth
def test_tmmlu_questions_load_and_replay_to_the_published_average():
    """3,343 real questions through registry, replay and averaging: 0.399668 over 53 subjects."""
    questions = get("tmmlu").load(Source(str(TRUTH)))
    with gzip.open(TRUTH / "tmmlu" / "model_7c_chat.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(text) for text in file]
    backend = ReplayBackend([{"id": f"{r['subject']}/{r['id']}", "text": r["response"]} for r in rows])
    answered = run_benchmark(backend, "tmmlu", questions.items, "m")
    score = summarise(answered)[0]
    assert "mean over subjects" in score["protocol"]
    assert score["n"] == 3343 and score["value"] == pytest.approx(0.399668, abs=5e-7)
