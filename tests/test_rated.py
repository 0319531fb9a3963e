"""Rated benchmarks from published files to the card's cells: own files of the published form, a scripted judge."""

import json
from types import SimpleNamespace

import pytest
from folders import publish

from kyara_utils.evaluation import evaluate
from kyara_utils.evaluation.backends.backend import EndpointBackend
from kyara_utils.evaluation.benchmark import Judge, Source
from kyara_utils.evaluation.card import OURS, card_tables
from kyara_utils.evaluation.judged.rated import Rated
from kyara_utils.evaluation.registry import benchmarks
from kyara_utils.llm import Response

PROMPTS = {
    "single-v1": "Q:{question} A:{answer}",
    "single-v1-multi-turn": "Q:{question_1}|{question_2} A:{answer_1}|{answer_2}",
    "single-math-v1": "Q:{question} R:{ref_answer_1} A:{answer}",
    "single-math-v1-multi-turn": "Q:{question_1} R:{ref_answer_1}|{ref_answer_2} A:{answer_1}|{answer_2}",
}
FOLDS = "基本任务 中文理解 综合问答 文本写作 逻辑推理 数学计算 角色扮演 专业能力".split()
SOURCE = 'def prompt_construct():\n    base_prompt = "{category} {dimensions} {question} {reference} A:{answer}"\n'


def lines(rows):
    """JSON Lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder with own MT-Bench and AlignBench files at the published places, their pins lifted."""
    monkeypatch.delenv("KYARA_EVAL_DATA", raising=False)
    judge = lines({"name": name, "system_prompt": "s", "prompt_template": text} for name, text in PROMPTS.items())
    questions = [{"question_id": i, "category": "writing", "turns": [f"one {i}", f"two {i}"]} for i in range(4)]
    align = [
        {"question_id": i, "category": fold, "subcategory": "s", "question": f"发动机{i}", "reference": "参考"}
        for i, fold in enumerate(FOLDS * 2)
    ]
    files = {
        "mt_bench_prompts": judge, "mt_bench_questions": lines(questions),
        "mt_bench_references": lines([{"question_id": 0, "choices": [{"turns": ["r1", "r2"]}]}]),
        "alignbench_questions": lines(align), "alignbench_judge": SOURCE,
        "alignbench_definitions": json.dumps({"d": "x"}), "alignbench_dimensions": json.dumps({"t": ["d"]}),
        "alignbench_types": json.dumps({"s": "t"}), "alignbench_temperatures": json.dumps({}),
    }  # fmt: skip
    return publish(tmp_path, files, monkeypatch)


def load_rated(data, root, limit=0):
    """The rated benchmarks alone of what `evaluate.load` finds."""
    suite = evaluate.load(Source(data, root, limit))
    mine = {name for name, one in benchmarks().items() if isinstance(one, Rated)}
    known = (
        {name: value for name, value in found.items() if name in mine} for found in (suite.questions, suite.reasons)
    )
    return evaluate.Suite(*known)


class Scripted:
    """A client that answers from a function of the last message."""

    model = SimpleNamespace(dialect="chat", name="scripted")

    def __init__(self, say):
        self.say, self.seen = say, []

    def ask(self, requests, label=""):
        self.seen += [request.messages[-1]["content"] for request in requests]
        return [Response("call", self.say(request.messages[-1]["content"])) for request in requests]


def rate(text):
    """Rate `good` answers 9 and others 5, in the form that each benchmark asks for; one MT-Bench turn is unreadable."""
    points = 9 if "good" in text else 5
    if "one 3|" in text:
        return "no rating"
    return f"[[{points}]]" if text.startswith("Q:") else f"{{'d': {points}, '综合得分': {points}}}"


@pytest.fixture
def rated(folder):
    """(data, ratings) of a good and a poor model."""
    data = load_rated(folder.name, folder.parent)
    good, poor = Scripted(lambda text: f"good: {text}"), Scripted(lambda text: f"poor: {text}")
    said = {model: evaluate.ask(EndpointBackend(client), data, 64) for model, client in (("dpo", good), ("base", poor))}
    return data, evaluate.score(data, said, Judge(Scripted(rate), "scripted"))


def test_what_is_there_is_loaded_and_the_rest_has_a_reason(folder):
    """MT-Bench-TW's files are absent: it must not be judged with MT-Bench's, nor left out in silence."""
    data = load_rated(folder.name, folder.parent, limit=3)
    assert {name: len(found.items) for name, found in data.questions.items()} == {
        "mt_bench": 3, "alignbench_cht": 3, "alignbench_chs": 3,
    }  # fmt: skip
    assert data.reasons["mt_bench_tw"].startswith("not run: no mtkresearch+TCEval/")
    assert {"alpaca_eval", "arena_hard"} <= set(data.reasons)
    assert str(folder) not in str(data.reasons)


def test_the_traditional_run_asks_in_traditional_characters(folder):
    """A CHT row judged on Simplified questions is the CHS row under another name."""
    data, client = load_rated(folder.name, folder.parent), Scripted(lambda text: "x")
    evaluate.ask(EndpointBackend(client), data, 64)
    assert {"發動機0", "发动机0"} <= set(client.seen) and len(client.seen) == 4 * 2 + 16 + 16


def test_ratings_fill_the_cards_lines(rated):
    """A rating shown as percent, or an unread verdict averaged in as -1, would be a wrong line that looks right."""
    data, rows = rated
    scores = evaluate.summarise(rows)
    differences = evaluate.differences(rows, ["base", "dpo"])
    found = card_tables(scores, differences, reasons=data.reasons)
    bench = next(row for row in found if row["score"] == "MT-Bench")
    assert bench[OURS] == "9.00 [9.00, 9.00]" and bench["n"] == "4 of 80" and bench["unscored %"] == "25.0"
    assert bench["judge"] == "scripted; not the card's"
    assert bench["paired difference"] == "+4.00 [+4.00, +4.00] to base, n 3"
    overall = [row for row in found if row["score"] == "AlignBench: Overall"]
    assert [row[OURS] for row in overall] == ["9.00 [9.00, 9.00]"] * 2 and overall[0]["n"] == "16 of 683"
    assert next(row for row in found if row["score"] == "MT-Bench-TW")[OURS].startswith("not run: ")


def test_nothing_is_fetched_without_being_asked(tmp_path, monkeypatch):
    """A run without data must not reach for the network."""
    monkeypatch.delenv("KYARA_EVAL_DATA", raising=False)
    monkeypatch.setenv("KYARA_CACHE", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: pytest.fail("asked the network"))
    data = load_rated("", tmp_path)
    assert not data.questions and len(data.reasons) == 6
    assert evaluate.score(data, {"dpo": {}}, Judge(Scripted(rate), "scripted")) == []
