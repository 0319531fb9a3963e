"""AlignBench: the judge's prompt from its own source file, both scripts, eight folds and their averages."""

import json
import math
from pathlib import Path

import pytest

from kyara_utils.evaluation.judged import alignbench
from kyara_utils.llm import Response
from kyara_utils.runs.errors import KyaraError

TRUTH = Path(__file__).parents[1].parent / "shared" / "ground_truth"
SOURCE = """
raise RuntimeError("the judge's source is read, never run")

def prompt_construct(sample, config):
    base_prompt = "类型{category}，维度:\\n{dimensions}" \\
        "格式 {{'维度一': 打分, '综合得分': 打分}}\\n" \\
        "问{question}参{reference}答{answer}"
    return base_prompt
"""
QUESTION = {
    "question_id": 7, "category": "逻辑推理", "subcategory": "推理", "question": "为什么?", "reference": "因为。",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    config = {
        "dimension_set.json": {"推理型": ["正确", "清晰"]},
        "dimension_definition.json": {"正确": "无误", "清晰": "易懂"},
        "subcategory_question_mapping.json": {"推理": "推理型", "证明": "没有"},
        "temperature.json": {"逻辑推理": 0.1},
    }
    (tmp_path / "config").mkdir()
    for name, body in config.items():
        (tmp_path / "config" / name).write_text(json.dumps(body, ensure_ascii=False), encoding="utf-8")
    (tmp_path / "judge.py").write_text(SOURCE, encoding="utf-8")
    return tmp_path


class Judge:
    def __init__(self, *texts):
        self.texts = list(texts)

    def ask(self, requests, label=""):
        return [Response("c", self.texts.pop(0)) for _ in requests]


def test_the_prompt_comes_from_the_published_source_without_running_it(folder):
    prompts = alignbench.load_align_prompts(folder)
    (message,) = alignbench.messages_for(QUESTION, "{reference}", prompts)
    assert message["content"] == (
        "类型逻辑推理，维度:\n1. 正确: 无误\n2. 清晰: 易懂\n"
        "格式 {'维度一': 打分, '综合得分': 打分}\n问为什么?参因为。答{reference}"
    )
    assert prompts.temperatures["逻辑推理"] == 0.1


def test_a_subcategory_without_dimensions_and_a_missing_file_are_one_line(folder):
    prompts = alignbench.load_align_prompts(folder)
    with pytest.raises(KyaraError, match="证明"):
        alignbench.messages_for(QUESTION | {"subcategory": "证明"}, "", prompts)
    (folder / "judge.py").write_text("base_prompt = 1 +")
    with pytest.raises(KyaraError, match="judge.py"):
        alignbench.load_align_prompts(folder)
    (folder / "config" / "dimension_set.json").unlink()
    with pytest.raises(KyaraError, match="dimension_set.json"):
        alignbench.load_align_prompts(folder)


def test_traditional_verdicts_count_and_unreadable_ones_stay_unscored(folder):
    prompts = alignbench.load_align_prompts(folder)
    questions = [QUESTION, QUESTION | {"question_id": 8}, QUESTION | {"question_id": 9}]
    judge = Judge('{"正確": 8, "綜合得分": "7.5"}', "沒有分數", "還是沒有")
    rows = alignbench.judge_align(judge, questions, {7: "a", 8: "b"}, prompts, "m")
    assert [row["score"] for row in rows] == [7.5, None] and rows[0]["ratings"]["正確"] == 8.0


def test_the_traditional_run_converts_questions_only_and_says_so():
    pytest.importorskip("opencc")
    (row,) = alignbench.to_traditional([QUESTION])
    assert row["question"] == "為什麼?" and row["reference"] == "因为。"
    assert row["converted"] == ["question"] and row["category"] == "逻辑推理"


def folds(**scores):
    """Two rows a fold, named as in the results; unnamed folds score 6."""
    return [
        {"category": category, "score": scores.get(name, 6)}
        for category, name in alignbench.FOLDS.items()
        for _ in "ab"
    ]


def test_the_overall_score_is_the_mean_of_the_two_halves_not_of_the_questions():
    rows = folds(math=3, logic=5) + [{"category": "专业能力", "score": 6}] * 50
    found = {row["metric"]: row for row in alignbench.summarise(rows)}
    assert found["reasoning"]["value"] == pytest.approx(4) and found["language"]["value"] == pytest.approx(6)
    assert found["overall"]["value"] == pytest.approx(5) and found["professional"]["n"] == 52
    assert found["overall"]["low"] <= 5 <= found["overall"]["high"]


def test_parse_failures_do_not_pull_a_fold_down():
    rows = folds(writing=8)
    rows[rows.index({"category": "文本写作", "score": 8})]["score"] = None
    found = {row["metric"]: row for row in alignbench.summarise(rows)}
    assert found["writing"]["value"] == 8 and found["writing"]["unscored"] == 1
    assert found["overall"]["unscored"] == 1 and found["overall"]["n"] == 15


def test_an_average_without_one_of_its_folds_is_unknown():
    rows = [row for row in folds() if row["category"] != "角色扮演"]
    found = {row["metric"]: row["value"] for row in alignbench.summarise(rows)}
    assert math.isnan(found["language"]) and math.isnan(found["overall"]) and found["reasoning"] == 6


def test_folds_are_known_in_traditional_script_and_others_are_an_error():
    rows = [row | {"category": traditional(row["category"])} for row in folds()]
    assert [row["value"] for row in alignbench.summarise(rows)] == pytest.approx([6] * 11)
    with pytest.raises(KyaraError, match="天文"):
        alignbench.summarise([{"category": "天文", "score": 5}])


def traditional(text):
    return text.translate(str.maketrans("数学计逻辑务综问写业专", "數學計邏輯務綜問寫業專"))


def test_the_golden_check_finds_a_changed_average(tmp_path):
    (tmp_path / "alignbench").mkdir()
    names = list(alignbench.FOLDS.values())
    path = tmp_path / "alignbench" / "published.csv"
    header = ",".join(["model", "overall", "reasoning", "language", *names])
    path.write_text(f"{header}\nm,5,4,6,3,5,6,6,6,6,6,6\nn,5,4,6,3,5,9,6,6,6,6,6\n")
    wrong = [figure.name for figure in alignbench.check(tmp_path) if not figure.matches]
    assert wrong == ["alignbench/row 2 n language", "alignbench/row 2 n overall"]
    assert list(alignbench.check(tmp_path / "nowhere")) == []
    path.write_text(f"{header}\nm,5\n")
    with pytest.raises(KyaraError, match="published.csv"):
        list(alignbench.check(tmp_path))


@pytest.mark.skipif(not TRUTH.is_dir(), reason=f"no {TRUTH}")
def test_published_averages_follow_from_their_folds_and_the_slip_of_the_card_is_seen():
    figures = {figure.name: figure for figure in alignbench.check(TRUTH)}
    assert len(figures) >= 3 * 30 and all(figure.matches for figure in figures.values())
    slip = figures["alignbench/card ChatGPT-3.5-0613 reasoning"]
    assert slip.recomputed == pytest.approx(5.085) and "5.00" in slip.note
    recomputed = [figures[f"alignbench/card {model} overall"].recomputed for model in
                  ("Kyara-2b-it-CHT", "Kyara-2b-it-CHS", "Gemma-2-2b-it")]  # fmt: skip
    assert recomputed == pytest.approx([6.4458, 5.9, 5.6408], abs=1e-4)
