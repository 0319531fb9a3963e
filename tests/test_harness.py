"""The harness leg adds up: local tasks, stored answers, IFEval without a network, the leaderboard's normalisation."""

import functools
import importlib.util
import json
import sys
from pathlib import Path

import pytest
from test_loglikelihood import ITEMS, needs_harness, one_thread, tiny_model, tiny_tokenizer  # noqa: F401

from kyara_utils.evaluation.backends.backend import TransformersBackend
from kyara_utils.evaluation.backends.letters import exam_prompt
from kyara_utils.evaluation.scored.harness import CHOICES, leaderboard_scores, normalise, run_harness
from kyara_utils.runs.errors import KyaraError


def replay_lm(texts: dict[str, str]):
    """An `LM` without a model: the stored text whose key the prompt contains (the longest wins), else an empty one."""
    from lm_eval.api.model import LM

    class Replay(LM):
        def generate_until(self, requests, disable_tqdm=False):
            keys = [[key for key in texts if key in request.args[0]] for request in requests]
            return [texts[max(found, key=len)] if found else "" for found in keys]

        def loglikelihood(self, requests, disable_tqdm=False):
            raise NotImplementedError

        loglikelihood_rolling = loglikelihood

    return Replay()


@pytest.fixture(scope="module")
def tiny():
    return tiny_model("gemma3"), tiny_tokenizer()


def test_normalisation_puts_chance_at_zero_and_all_right_at_a_hundred():
    assert normalise(0.25, 4) == 0 and normalise(0.1, 4) == 0 and normalise(1.0, 4) == 100
    assert normalise(0.55, 10) == pytest.approx(50) and normalise(0.3, 0) == pytest.approx(30)


def test_columns_of_the_leaderboard_are_means_of_normalised_subtasks():
    rows = [
        {"task": "leaderboard_bbh_navigate", "normalised": 20.0, "metrics": {}},
        {"task": "leaderboard_bbh_snarks", "normalised": 40.0, "metrics": {}},
        {"task": "leaderboard_math_algebra_hard", "normalised": 7.0, "metrics": {}},
        {"task": "leaderboard_ifeval", "normalised": 50.0, "metrics": {"inst_level_strict_acc": 0.6}},
        {"task": "tmmlu_local", "normalised": 1.0, "metrics": {}},
    ]
    assert leaderboard_scores(rows) == {"bbh": 30.0, "math_hard": 7.0, "ifeval": 55.0}


@needs_harness
def test_the_number_of_choices_is_the_harnesss_own():
    import yaml

    folder = Path(importlib.util.find_spec("lm_eval").origin).parent / "tasks" / "leaderboard" / "bbh_mc"
    listed = {}
    for path in folder.glob("[a-z]*.yaml"):
        task = yaml.safe_load(path.read_text(encoding="utf-8"))
        listed[task["task"].removeprefix("leaderboard_")] = len(task["doc_to_choice"])
    assert listed == {name: k for name, k in CHOICES.items() if name.startswith("bbh_")}


def local_task(folder: Path, name: str, rows: list[dict], body: str) -> None:
    data = folder / f"{name}.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    head = f"task: {name}\ndataset_path: json\ndataset_kwargs:\n  data_files: {data}\ntest_split: train\n"
    (folder / f"{name}.yaml").write_text(head + body, encoding="utf-8")


@pytest.fixture
def offline(monkeypatch, tmp_path):
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))


@needs_harness
def test_the_harness_on_a_local_task_agrees_with_our_own_letters(tiny, tmp_path, offline):
    body = (
        "output_type: multiple_choice\ndoc_to_text: '{{prompt}}'\ndoc_to_choice: [A, B, C, D]\ndoc_to_target: answer\n"
        "target_delimiter: ''\nmetric_list:\n  - metric: acc\n"
    )
    items = [item | {"answer": "ABCD"[n]} for n, item in enumerate(ITEMS)]
    rows = [{"prompt": exam_prompt(item), "answer": "ABCD".index(item["answer"])} for item in items]
    local_task(tmp_path, "letters_local", rows, body)
    (row,) = run_harness(*tiny, ["letters_local"], include_path=tmp_path)
    ours = TransformersBackend(*tiny).choose(items)
    assert [document["outcome"] for document in row["documents"]] == [one["outcome"] for one in ours]
    assert row["raw"] == pytest.approx(row["metrics"]["acc"]) and row["n"] == 4 and row["unscored"] == 0


@needs_harness
def test_stored_answers_run_through_a_stock_scorer_and_missing_ones_stay_unscored(tmp_path, offline):
    body = (
        "include: gsm8k.yaml\ndataset_name: null\ntraining_split: null\nfewshot_split: null\nnum_fewshot: 0\n"
        "doc_to_text: '{{question}}'\n"
    ).replace("gsm8k.yaml", str(Path(importlib.util.find_spec("lm_eval").origin).parent / "tasks/gsm8k/gsm8k.yaml"))
    rows = [{"question": name, "answer": "#### 4"} for name in ("first", "second", "third")]
    local_task(tmp_path, "gsm_local", rows, body)
    stored = replay_lm({"first": "It is.\n#### 4", "second": "I count 4"})
    found = {row["filter"]: row for row in run_harness(stored, None, ["gsm_local"], include_path=tmp_path)}
    counts = {name: (row["correct"], row["wrong"], row["unscored"]) for name, row in found.items()}
    assert counts == {"strict-match": (1, 1, 1), "flexible-extract": (2, 0, 1)}
    assert found["strict-match"]["high"] > found["strict-match"]["raw"] + 1 / 3


@needs_harness
def test_ifeval_runs_without_a_network_and_averages_both_levels(tmp_path, offline):
    stock = Path(importlib.util.find_spec("lm_eval").origin).parent / "tasks/ifeval/ifeval.yaml"
    rows = [
        {"key": 1, "prompt": "no commas", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
        {"key": 2, "prompt": "small sentences", "kwargs": [{}, {"num_sentences": 3, "relation": "at least"}],
         "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_sentences"]},
    ]  # fmt: skip
    local_task(tmp_path, "ifeval_local", rows, f"include: {stock}\ndataset_name: null\n")
    stored = replay_lm({"no commas": "None here.", "small": "One. Two, so."})
    (row,) = run_harness(stored, None, ["ifeval_local"], include_path=tmp_path)
    assert (row["metric"], row["raw"]) == ("prompt_level_strict_acc", 0.5)
    assert leaderboard_scores([row])["ifeval"] == pytest.approx((50 + 100 / 3) / 2)


@needs_harness
def test_data_that_is_not_there_is_one_line(tmp_path, offline):
    local_task(tmp_path, "gone_local", [{"q": "1"}], "output_type: generate_until\ndoc_to_text: q\ndoc_to_target: q\n")
    (tmp_path / "gone_local.jsonl").unlink()
    with pytest.raises(KyaraError, match="gone_local"):
        run_harness(replay_lm({}), None, ["gone_local"], include_path=tmp_path)


@needs_harness
def test_an_unknown_task_is_one_line(monkeypatch):
    from lm_eval.tasks import TaskManager

    few = functools.partial(TaskManager, include_defaults=False)  # indexing all stock tasks takes ten seconds
    monkeypatch.setattr("lm_eval.tasks.TaskManager", few)
    with pytest.raises(KyaraError, match="no_such_task"):
        run_harness(replay_lm({}), None, ["no_such_task"])


def test_without_the_extra_the_mend_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(KyaraError, match="pip install"):
        run_harness(None, None, ["x"])
