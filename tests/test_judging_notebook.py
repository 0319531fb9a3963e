"""Notebook 06 from its first cell to its last, with scripted models in the place of real ones."""

import json
from types import SimpleNamespace

import pytest
import test_eval_notebook as evaluation
import test_step_pairs as steps

import kyara_utils.llm
import kyara_utils.models.loading
from kyara_utils.llm import Model, Response
from kyara_utils.preference import candidates, judges
from kyara_utils.runs import params, read_csv, read_rows, schemas, write_rows

NOTEBOOK = evaluation.ROOT / "notebooks" / "06_dpo_pair_judging.ipynb"
CELLS = [cell["source"] for cell in params.load_notebook(NOTEBOOK)["cells"] if cell["cell_type"] == "code"]
TRUTH = "答案是"


class Talker:
    """Answers with its name and its length; as a judge it takes the answer that belongs to the question, or A."""

    def __init__(self, name, knows=True):
        self.model, self.usage, self.knows = Model(name), {"cost": 0.5}, knows

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def ask(self, requests, label="", **_):
        return [self.reply(request) for request in requests]

    def reply(self, request):
        said = request.messages[-1]["content"]
        if "impartial judge" not in said:
            text = f"{said[:3]}的答案，{self.model.name}說" + "好" * len(self.model.name) + f"{request.seed}"
            return Response(f"call{said}{self.model.name}", text, "stop")
        asked = said.split("**[User Question]**\n")[1][:3]
        one, two = (said.split(f"Assistant {x}’s Answer]**\n")[1].split("\n---")[0] for x in "AB")
        right = [asked in one, asked in two]
        tag = "A" if not self.knows else "AB"[right[1]] if right[0] != right[1] else "AB"[len(two) > len(one)]
        return Response("judged", f"[[{tag}]]", "stop")


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """A function that runs all cells with a judge that knows or does not; returns namespace and what was finished."""
    rows = [
        {"id": f"conv_{n}", "lang": "zh-Hant", "source": "rag", "parents": [], "call_ids": [], "meta": "{}",
         "messages": [{"role": "user", "content": f"問{n:02}？"}, {"role": "assistant", "content": f"問{n:02}{TRUTH}"}]}
        for n in range(20)
    ]  # fmt: skip
    write_rows(tmp_path / "refined.parquet", rows, schemas.CONVERSATION)
    write_rows(tmp_path / "chunks.parquet", [], schemas.CHUNK)
    tables = {name: tmp_path / f"{name}.parquet" for name in ("refined", "chunks")}
    tables |= {"base": tmp_path / "base.parquet", "held_out_parquet": tmp_path / "sft_held_out.parquet"}

    def run_all(knows, unseen=0, more=(), **given):
        write_rows(tables["held_out_parquet"], rows[:unseen], schemas.CONVERSATION)
        write_rows(tables["base"], [*rows, *more], schemas.CONVERSATION)

        def connect(model, *_, **__):
            return Talker(getattr(model, "name", model), knows)

        for place in (kyara_utils.llm, candidates, judges):
            monkeypatch.setattr(place, "connect", connect)
        finished = {}
        run = SimpleNamespace(
            root=tmp_path, dir=tmp_path, store_path=tmp_path, path=lambda name: tmp_path / name,
            input=lambda step, name: tables.get(name, tmp_path),
            finish=lambda **outputs: finished.update(outputs),
        )  # fmt: skip
        space = {name: parameter.default for name, parameter in params.declared(NOTEBOOK).items()}
        space |= {
            "run": run,
            "judge_mode": "text",
            "judges": ["gpt-4o"],
            "competitors": ["me", "you", "them", "other"],
        } | given
        for number, source in enumerate(CELLS):
            if number == 1:  # the parameters
                continue
            source = source.rpartition("run = start(")[0] if "run = start(" in source else source
            exec(compile(source, f"cell {number}", "exec"), space)
        return space, finished

    monkeypatch.setattr("kyara_utils.preference.students", lambda folders: {n: Model(n) for n in folders})
    return run_all


def test_a_judge_that_fails_its_test_makes_no_pair(notebook, tmp_path, capsys):
    """The line that says so, its pairs as rejects, and no call beyond the test; SPIN goes on."""
    space, finished = notebook(False, sppo_prompts=2, sppo_samples=2)
    assert "REFUSED: kappa" in capsys.readouterr().out and not space["rlaif"] and not space["sppo"]
    rules = [row["rule"] for row in read_rows(tmp_path / "rejects.parquet")]
    assert rules.count("judge_below_bar") == len(space["pairs"]) + 2 == 22
    assert {row["source"] for row in read_rows(tmp_path / "preferences.parquet")} == {"spin"}
    assert finished["metrics"]["believed"] == 0
    (row,) = read_csv(tmp_path / "judge_tests.csv")
    assert row["trusted"] == "False" and float(row["position"]) == 1
    assert {row["source"] for row in read_csv(tmp_path / "judge.csv")} == {"test"}


def test_a_judge_that_passes_makes_pairs_by_both_ways(notebook, tmp_path, capsys):
    """Each pair that survives, or the best answer of a prompt against its worst; all rows keep their origin."""
    space, finished = notebook(True, sppo_prompts=2, sppo_samples=2)
    assert len(space["rlaif"]) == len(space["pairs"]) == 20 and finished["metrics"]["believed"] == 1
    assert "believed: kappa 1.00" in (said := capsys.readouterr().out) and "$0.0250 of judging" in said
    space, _ = notebook(True, best_worst=True, pairs_per_prompt=6)
    assert len(space["pairs"]) == 60 and len(space["rlaif"]) == 10
    assert {row["chosen_model"] for row in space["rlaif"]} == {"other"}
    assert all(json.loads(row["verdicts"])["pairs"] == 6 and row["parents"] for row in space["rlaif"])
    assert space["rlaif"][0]["rejected_model"] == "me"


def test_two_judges_one_of_them_bad(notebook, capsys, monkeypatch):
    """The bad one is left out and named; the other decides alone."""
    real = Talker.reply

    def reply(self, request):
        self.knows = self.model.name != "gpt-4o"
        return real(self, request)

    monkeypatch.setattr(Talker, "reply", reply)
    space, finished = notebook(True, judges=["gpt-4o", "yi-large"])
    assert finished["metrics"]["judges"] == 2 and space["names"] == ["yi-large"] and len(space["rlaif"]) == 20
    assert json.loads(space["rlaif"][0]["verdicts"])["judge"] == "yi-large"
    assert "other" in capsys.readouterr().out


def test_human_labels_in_the_place_of_known_pairs(notebook, tmp_path):
    rows = [{"prompt": f"問{n:02}", "first": f"問{n:02}對", "second": "錯了", "label": "first"} for n in range(9)]
    rows += [{"prompt": f"問{n:02}", "second": f"問{n:02}對", "first": "錯了", "label": "second"} for n in range(9)]
    (tmp_path / "human.jsonl").write_text("\n".join(map(json.dumps, [*rows, rows[0] | {"label": "?"}])))
    space, finished = notebook(True, calibration="human.jsonl", test_pairs=16)
    assert len(space["tests"]) == 16 and space["tested"][0]["right"] == 16
    assert [row["rule"] for row in read_rows(tmp_path / "rejects.parquet")].count("no_label") == 1


def test_steps_of_maths_rows_go_on_from_what_was_right(notebook, tmp_path, monkeypatch):
    """A step stays one all the way into the table that trains: the turn has begun, and none ends."""
    real = Talker.reply

    def reply(self, request):
        if request.raw:
            return Response("call_raw", "36-7=29 枝。\n答案是 29 枝。", "stop")
        if request.messages[0]["content"] == steps.ASKED:
            return Response("call_solved", steps.WRONG, "stop")
        return real(self, request)

    monkeypatch.setattr(Talker, "reply", reply)
    monkeypatch.setattr(kyara_utils.models.loading, "load_tokenizer", lambda folder: steps.Tokenizer())
    _, finished = notebook(False, more=[steps.ROW])
    (row,) = [row for row in read_rows(tmp_path / "preferences.parquet") if row["source"] == "step_dpo"]
    assert row["step"] and row["prompt"][-1] == {"role": "assistant", "content": steps.FIRST}
    assert row["chosen"][0]["content"] == "36-7=29 枝。" and finished["metrics"]["step_dpo"] == 1


def test_verified_pairs_need_no_judge_and_no_row_that_was_held_out(notebook, tmp_path, monkeypatch, capsys):
    """Gold answers of 05's held-out rows in any pair would turn 07's held-out loss into memory."""
    real = Talker.reply

    def reply(self, request):
        if self.model.name != "sft" or request.seed < 50:
            return real(self, request)
        text = {50: "望遠鏡讓人看清楚星星。", 100: "望远镜让人看清楚星星。"}[request.seed]
        return Response(f"call{request.seed}", text, "stop")

    monkeypatch.setattr(Talker, "reply", reply)
    space, finished = notebook(False, unseen=3, verified_prompts=40, verified_samples=3, held_out_share=0.2)
    verified = space["verified"]
    assert len(verified) == finished["metrics"]["verified"] == 17 and not space["unsure"]
    assert {row["source"] for row in verified} == {"verified_form"}
    assert {row["chosen"][0]["content"] for row in verified} == {"望遠鏡讓人看清楚星星。"}
    unseen = {f"conv_{n}" for n in range(3)}
    files = [read_rows(tmp_path / f"{name}.parquet") for name in ("preferences", "held_out")]
    assert not unseen & {parent for rows in files for row in rows for parent in row["parents"]}
    prompts = [{row["prompt"][0]["content"] for row in rows} for rows in files]
    assert all(prompts) and not prompts[0] & prompts[1], "a prompt of both SPIN and a check is on one side"
    assert "verified_form: 17 pairs" in capsys.readouterr().out
