"""Any backend gives the same rows; runs resume; real questions are found or "not run"."""

import gzip
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_loglikelihood import ITEMS, one_thread, tiny_model, tiny_tokenizer  # noqa: F401

from kyara_utils.evaluation import stages
from kyara_utils.evaluation.backends import backend
from kyara_utils.evaluation.backends.backend import EndpointBackend, ReplayBackend, TransformersBackend
from kyara_utils.evaluation.backends.journal import Journal
from kyara_utils.evaluation.benchmark import Source
from kyara_utils.evaluation.registry import benchmarks, get
from kyara_utils.llm import Model, Response, endpoints
from kyara_utils.runs.errors import KyaraError

TRUTH = Path(__file__).resolve().parents[1].parent / "shared" / "ground_truth"
needs_truth = pytest.mark.skipif(not TRUTH.is_dir(), reason=f"no {TRUTH}")


@pytest.fixture(scope="module")
def tiny():
    return tiny_model("gemma3"), tiny_tokenizer()


def test_a_killed_run_goes_on_where_it_stopped_and_gives_the_same(tiny, tmp_path, monkeypatch):
    from kyara_utils.evaluation.backends import loglikelihood

    whole = TransformersBackend(*tiny, token_budget=1).choose(ITEMS)
    path, real, left = tmp_path / "answers.jsonl", loglikelihood._batch_logprobs, [2]

    def dying(model, items):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(model, items)

    monkeypatch.setattr(loglikelihood, "_batch_logprobs", dying)
    with pytest.raises(KeyboardInterrupt):
        TransformersBackend(*tiny, journal=path, token_budget=1).choose(ITEMS)
    kept = path.read_text(encoding="utf-8")
    assert kept.count("\n") == 2
    path.write_text(kept[:-20], encoding="utf-8")  # the second line was cut as well
    left[0] = 3
    assert TransformersBackend(*tiny, journal=path, token_budget=1).choose(ITEMS) == whole
    left[0] = 0
    assert TransformersBackend(*tiny, journal=path, token_budget=1).choose(ITEMS) == whole


def test_a_journal_never_answers_for_other_weights_or_settings(tiny, tmp_path):
    import torch

    model, tokenizer = tiny_model("gemma3"), tiny[1]
    backend = TransformersBackend(model, tokenizer, journal=tmp_path / "a.jsonl")
    asks = [{"id": "1", "prompt": "abc"}]
    short, longer = backend.generate(asks, 3), backend.generate(asks, 9)
    assert len(longer[0]["text"]) > len(short[0]["text"])
    before = backend.choose(ITEMS)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(0.5)
    assert backend.choose(ITEMS) != before
    assert len(Journal(tmp_path / "a.jsonl").found) == 2 + 2 * len(ITEMS)


def test_one_question_asked_twice_is_answered_once_and_returned_twice(tiny, tmp_path):
    backend = TransformersBackend(*tiny, journal=tmp_path / "a.jsonl")
    rows = backend.generate([{"id": "1", "prompt": "abc"}, {"id": "2", "prompt": "abc"}], 4)
    assert [row["id"] for row in rows] == ["1", "2"] and rows[0]["text"] == rows[1]["text"]
    assert len(backend.journal.found) == 1


def test_a_conversation_needs_a_chat_template(tiny):
    with pytest.raises(KyaraError, match="chat template"):
        TransformersBackend(*tiny).generate([{"id": "1", "messages": [{"role": "user", "content": "a"}]}])


def test_a_folder_without_a_model_is_one_line(tmp_path):
    with pytest.raises(KyaraError, match="cannot load"):
        TransformersBackend(tmp_path)


class StoredClient:
    """Answers with what it is given and remembers what it was asked."""

    def __init__(self, *responses):
        self.responses, self.asked, self.model = responses, [], Model("stored", dialect="chat")

    def ask(self, requests, label=""):
        self.asked = requests
        return list(self.responses)


def test_an_endpoint_is_read_through_its_top_logprobs_and_a_failed_call_is_unscored():
    known = Response("1", logprobs=[{"A": -2.0, " B": -1.0, "C": -3.0, "D": -4.0, "x": -0.1}])
    client = StoredClient(known, Response("2", logprobs=[{"A": -1.0}]), Response("3", error="HTTP 500"))
    rows = EndpointBackend(client).choose(ITEMS[:3])
    assert [row["outcome"] for row in rows] == ["correct", "unscored", "unscored"]
    assert rows[2]["reason"] == "HTTP 500"
    assert all(request.raw and request.max_tokens == 1 for request in client.asked)


def test_an_endpoint_sends_conversations_as_chat_and_prompts_as_text():
    client = StoredClient(Response("1", "yes", "stop"), Response("2", error="HTTP 400"))
    asks = [{"id": "a", "messages": [{"role": "user", "content": "x"}]}, {"id": "b", "prompt": "y"}]
    rows = EndpointBackend(client).generate(asks, 7, ["\n"])
    assert [request.raw for request in client.asked] == [False, True]
    assert {request.stop for request in client.asked} == {("\n",)}
    assert [(row["text"], row["error"]) for row in rows] == [("yes", ""), (None, "HTTP 400")]


def test_replay_gives_what_was_stored_and_a_reason_for_what_was_not(tiny):
    made = TransformersBackend(*tiny).choose(ITEMS)
    stored = [{"id": row["id"], "logprobs": row["logprobs"]} for row in made[:2]]
    stored += [{"id": "s/2", "response": "答案是(B)"}, {"id": "t", "text": "1"}, {"id": "t", "text": "2"}]
    backend = ReplayBackend(stored)
    rows = backend.choose(ITEMS)
    assert rows[:2] == made[:2]
    assert rows[2]["outcome"] == "correct" and math.isnan(rows[2]["margin"])
    assert (rows[3]["outcome"], rows[3]["reason"]) == ("unscored", "no stored answer")
    texts = backend.generate([{"id": "s/2"}, {"id": "t"}, {"id": "gone"}])
    assert [row["text"] for row in texts] == ["答案是(B)", None, None]
    assert "two different" in texts[1]["error"]


def load_benchmark(name, folder=""):
    """The questions of one benchmark from a folder, or from where $KYARA_EVAL_DATA points."""
    return get(name).load(Source(str(folder)))


def test_without_data_a_benchmark_is_not_run_and_says_why(monkeypatch, tmp_path):
    monkeypatch.delenv("KYARA_EVAL_DATA", raising=False)
    for name in [name for name, one in benchmarks().items() if not one.miniature]:
        with pytest.raises(KyaraError, match="^[^\n]+$"):
            load_benchmark(name, tmp_path)
    with pytest.raises(KyaraError, match="no benchmark unheard_of; known: .*gsm8k"):
        get("unheard_of")


def test_questions_are_read_from_every_local_layout(tmp_path, monkeypatch):
    (tmp_path / "gsm8k").mkdir()
    rows = [{"question": "q1", "answer": "so it is\n#### 1,234"}, {"question": "q2", "answer": "#### -5"}]
    (tmp_path / "gsm8k" / "test.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    folder = tmp_path / "tmmlu_plus" / "data"
    folder.mkdir(parents=True)
    (folder / "anatomy_test.csv").write_text(
        "question,A,B,C,D,answer\n骨頭,None,2,NA,4,C\n,1,2,3,4,A\n", encoding="utf-8"
    )
    (folder / "anatomy_train.csv").write_text("question,A,B,C,D,answer\nx,1,2,3,4,A\n", encoding="utf-8")
    with gzip.open(tmp_path / "crux.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(json.dumps({"id": "c", "code": "def f(): pass", "input": "", "output": "None"}))
    monkeypatch.setenv("KYARA_EVAL_DATA", str(tmp_path))
    assert [item["answer"] for item in load_benchmark("gsm8k").items] == ["1234", "-5"]
    assert "1319" in load_benchmark("gsm8k").note
    exam = load_benchmark("tmmlu_plus").items
    assert [(item["subject"], item["A"], item["C"], item["answer"]) for item in exam][0] == (
        "anatomy",
        "None",
        "NA",
        "C",
    )
    assert len({item["id"] for item in exam}) == len(exam) == 2
    assert load_benchmark("crux").items == [{"id": "c", "code": "def f(): pass", "input": "", "answer": "None"}]


def test_redux_keeps_good_and_mended_questions_only(tmp_path):
    base = {"question": "q", "choices": ["1", "2", "3", "4"], "answer": 0, "correct_answer": None}
    marks = [("ok", None), ("wrong_groundtruth", "C"), ("wrong_groundtruth", "1 or 2"), ("bad_question_clarity", "A")]
    rows = [base | {"error_type": kind, "correct_answer": fix} for kind, fix in marks]
    (tmp_path / "mmlu_redux").mkdir()
    (tmp_path / "mmlu_redux" / "anatomy.json").write_text(json.dumps(rows), encoding="utf-8")
    found = load_benchmark("mmlu_redux", tmp_path).items
    assert [(item["answer"], item["subject"]) for item in found] == [("A", "anatomy"), ("C", "anatomy")]
    built = [
        {"question": "q", "choices": ["1", "2", "3", "4"], "correct_answer": key, "config": "virology"} for key in "39"
    ]
    (tmp_path / "mmlu_redux" / "anatomy.json").write_text(json.dumps(built), encoding="utf-8")
    found = load_benchmark("mmlu_redux", tmp_path).items
    assert [(item["answer"], item["subject"]) for item in found] == [("C", "virology")]


@pytest.mark.parametrize("text", ["{broken", '{"other": 1}\n', ""])
def test_damaged_data_is_not_run_and_named(tmp_path, text):
    (tmp_path / "gsm8k.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(KyaraError, match="^gsm8k of [^\n]+$"):
        load_benchmark("gsm8k", tmp_path)


@needs_truth
def test_all_3343_questions_of_tmmlu_are_found_with_ids_of_their_own():
    loaded = load_benchmark("tmmlu", TRUTH)
    assert len({item["id"] for item in loaded.items}) == 3343 and not loaded.note
    assert len({item["subject"] for item in loaded.items}) == 53
    assert sum(item["answer"] == "E" for item in loaded.items) == 5


def test_importing_the_backends_loads_no_heavy_package():
    import subprocess
    import sys

    names = ("registry", "scored.harness", "backends.backend", "backends.loglikelihood", "backends.generating")
    modules = ", ".join(f"kyara_utils.evaluation.{name}" for name in names)
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(backend.__file__).parents[2]).returncode == 0


def test_a_conversation_is_answered_turn_by_turn_whatever_runs_the_model(tiny, tmp_path):
    """A two-turn question whose second turn does not see the first answer is another question."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    backend = TransformersBackend(tiny[0], tokenizer, journal=tmp_path / "a.jsonl")
    asks = [{"id": "one", "turns": ["abc"]}, {"id": "two", "turns": ["abc", "bcd"]}]
    one, two = backend.converse(asks, 4)
    assert (one["id"], len(one["turns"]), len(two["turns"])) == ("one", 1, 2) and one["turns"][0] == two["turns"][0]
    again = backend.generate([{"id": "x", "prompt": f"abc {two['turns'][0]} bcd "}], 4)[0]
    assert two["turns"][1] == again["text"].strip() and two["text"] == "\n".join(two["turns"])
    assert backend.usage == {} and backend.weights()[0] is tiny[0]


def test_a_failed_turn_leaves_no_answer_and_says_why():
    client = StoredClient(Response("1", "yes", "stop"), Response("2", error="HTTP 500"))
    client.model = SimpleNamespace(dialect="chat", name="m")
    rows = EndpointBackend(client).converse([{"id": "a", "turns": ["x"]}, {"id": "b", "turns": ["y"]}], 7)
    assert [(row["text"], row["turns"], row["error"]) for row in rows] == [
        ("yes", ["yes"], ""),
        (None, [""], "HTTP 500"),
    ]


def test_stages_serve_a_gguf_or_the_folder_with_room_for_long_answers(tmp_path, monkeypatch):
    """A student of another family than Gemma has no GGUF; answers of 4,096 tokens do not fit the usual context."""
    for name in ("base", "sft", "dpo"):
        (tmp_path / name).mkdir()
    (tmp_path / "base" / "config.json").write_text('{"model_type": "qwen3"}')
    (tmp_path / "sft" / "model.gguf").write_bytes(b"GGUF")
    run = SimpleNamespace(
        input=lambda step, name: tmp_path / name, params_of=lambda step: {"base_model": "somebody/qwen"},
        path=lambda name: tmp_path / "08_eval" / name,
    )  # fmt: skip
    found = {stage.name: stage.model for stage in stages.stages(run, 4096, ("base", "sft", "dpo"))}
    assert {name: model.gguf or model.folder for name, model in found.items()} == {
        "base": str(tmp_path / "base"), "sft": str(tmp_path / "sft" / "model.gguf"), "dpo": str(tmp_path / "dpo"),
    }  # fmt: skip
    assert {model.context for model in found.values()} == {2048 + 2 * 4096}
    run.params_of = lambda step: {"base_model": stages.PACKAGED}
    packaged = stages.stages(run, 64, ("base",))[0].model
    assert (packaged.name, packaged.package, packaged.context) == ("base", stages.PACKAGED, 2048 + 2 * 64)
    endpoint = {"base": Model("base", base_url="http://127.0.0.1:9/v1")}
    monkeypatch.setattr(endpoints, "load_models", lambda root=None: endpoint)
    run.params_of = lambda step: {"base_model": "somebody/gemma"}
    (tmp_path / "base" / "config.json").write_text('{"model_type": "gemma3_text"}')
    served = stages.stages(run, 64, ("base",))[0].model
    assert (served.urls, served.folder) == (["http://127.0.0.1:9/v1"], str(tmp_path / "base")), "no GGUF is written"
