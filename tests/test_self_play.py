"""SPPO's win probabilities and pairs, and rounds of self-play with a real, tiny model that is served and trained."""

import json
import math

import pytest
import test_training as shared
from test_preference import answer

from kyara_utils.llm.client import Response
from kyara_utils.llm.endpoints import Model
from kyara_utils.preference import LlmJudge, Panel, judge_pairs, sppo_preferences
from kyara_utils.preference.candidates import SEED_STEP
from kyara_utils.preference.judge import Verdict
from kyara_utils.preference.preference_rows import preference
from kyara_utils.preference.rounds import rankers, train_rounds
from kyara_utils.preference.sppo import mean_wins, win_probability
from kyara_utils.runs.errors import KyaraError
from kyara_utils.training.dpo import train_dpo
from kyara_utils.training.report import rounds_held_out
from kyara_utils.training.settings import DpoSettings

cache, tiny_gguf, base, gemma2, rows = (
    getattr(shared, name) for name in ("cache", "tiny_gguf", "base", "gemma2", "rows")
)


class Model3:
    """A model with three answers, one a sample; the judge below likes the longer one."""

    def __init__(self, *texts, finish="stop"):
        self.model, self.texts, self.finish, self.asked = Model("me", dialect="chat"), texts, finish, []

    def ask(self, requests, label="", progress=True, **checks):
        self.asked += requests
        texts = [self.texts[request.seed // SEED_STEP % len(self.texts)] for request in requests]
        return [Response(f"call_{text}", text, self.finish) for text in texts]


class Judge:
    model = Model("judge")

    def __init__(self, margin=None):
        self.margin = margin or (lambda one, two: float(len(one) - len(two)))

    def ask(self, requests, label="", progress=True, **checks):
        found = []
        for request in requests:
            said = request.messages[0]["content"]
            one, two = (said.split(f"Assistant {x}’s Answer]**\n")[1].split("\n---")[0] for x in "AB")
            margin = self.margin(one, two)
            known = [{"A": margin / 2 - 9, "B": -margin / 2 - 9}] if margin is not None else []
            found.append(Response("v", "A", "length", known))
        return found


def panel(margin=None):
    return Panel([LlmJudge(Judge(margin), "logprob")], models={})


def test_the_best_and_the_worst_answer_with_their_mean_chances():
    """uclaml/SPPO compute_prob.py: the mean over all answers, the answer itself at one half included."""
    (row,), rejects = sppo_preferences(Model3("xx", "x", "xxxx"), panel(), {"q": ["r1"]}, samples=3, max_tokens=9)
    chance = lambda margin: 1 / (1 + 2.718281828459045**-margin)  # noqa: E731
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("xxxx", "x") and not rejects
    assert row["chosen_win"] == pytest.approx((chance(3) + chance(2) + 0.5) / 3, abs=1e-5)
    assert row["rejected_win"] == pytest.approx((1 - chance(3) + 1 - chance(1) + 0.5) / 3, abs=1e-5)
    assert (row["source"], row["parents"]) == ("sppo", ["r1"]) and len(row["call_ids"]) == 2 + 6
    assert json.loads(row["verdicts"])["answers"] == 3


def test_chosen_is_the_best_answer_that_came_to_an_end():
    """A cut answer as chosen teaches to run on; a cut one as rejected must not count its missing end."""

    class Cutting(Model3):
        def ask(self, requests, **more):
            found = super().ask(requests, **more)
            return [Response(r.call_id, r.text, "length" if len(r.text) != 2 else "stop") for r in found]

    (row,), _ = sppo_preferences(Cutting("xx", "x", "xxxx"), panel(), {"q": []}, samples=3)
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"], row["rejected_cut"]) == ("xx", "x", True)


@pytest.mark.parametrize(
    ("model", "margin", "rule"),
    [
        (Model3("x", "x", "x"), None, "too_few_answers"),
        (Model3("", "", "x"), None, "too_few_answers"),
        (Model3("a", "b", "c"), lambda one, two: None, "unscored"),
        (Model3("a", "b", "c"), lambda one, two: 0.0, "same_chance"),
        (Model3("a", "bb", "ccc", finish="length"), None, "chosen_truncated"),
    ],
)
def test_every_prompt_is_a_pair_or_a_reject(model, margin, rule):
    """A prompt that vanishes between sampling and ranking is a row lost."""
    kept, rejects = sppo_preferences(model, panel(margin), {"q": [], "r": []}, samples=3)
    assert not kept and [row["rule"] for row in rejects] == [rule, rule]
    assert len({row["id"] for row in rejects}) == 2


def test_chances_of_written_verdicts():
    """A text judge has no margins: 1, ½ and 0, the mean of both orders; unread orders do not count as ties."""
    cases = {("A", "A"): 1.0, ("A", "B"): 0.5, ("C", "B"): 0.25, ("", "A"): 1.0, ("", ""): None}
    for (forward, reverse), chance in cases.items():
        assert win_probability(Verdict("p", forward, reverse, "", None, None, ())) == chance
    assert mean_wins(3, [1.0, 1.0, 0.5]) == pytest.approx([2.5 / 3, 1 / 3, 1 / 3], abs=1e-6)


def test_margins_of_any_size_are_chances():
    """Reward models have scales of their own; in log units 800 is beyond what exp can hold."""
    margins = {0.0: 0.5, math.log(3): 0.75, 800.0: 1.0, -800.0: 0.0}
    for margin, chance in margins.items():
        assert win_probability(Verdict("p", "", "", "", margin, margin, ())) == pytest.approx(chance)


def test_a_judge_that_was_refused_ranks_no_later_round():
    pairs = [preference("q", "a", "b", source, "m", "m", {"judge": "good, org/reward"}, [], [])
             for source in ("sppo", "rlaif")]  # fmt: skip
    assert rankers(pairs, ["bad", "org/reward", "good"]) == ["org/reward", "good"]
    assert rankers(pairs[1:], ["good"]) == []


def test_no_answer_is_asked_for_a_judge_that_is_refused():
    """Samples cost as much whether or not somebody may rank them."""
    model = Model3("a", "b")
    kept, rejects = sppo_preferences(model, Panel([], models={}), {"q": [], "r": []}, samples=2)
    assert not kept and not model.asked and [row["rule"] for row in rejects] == ["judge_below_bar"] * 2


def test_samples_differ_in_seed():
    """Equal requests are one call in the ledger: five samples would be one answer five times."""
    model = Model3("a", "b")
    sppo_preferences(model, panel(), {"q": []}, samples=2, seed=7)
    assert [request.seed for request in model.asked] == [7, 57]
    assert judge_pairs(Judge(), [], "logprob") == [] and answer("m", "p")["text"] == "x"


@pytest.fixture(scope="module")
def spin(rows):
    def pair(row):
        asked, gold = row["messages"][0]["content"], row["messages"][1]["content"]
        return preference(asked, gold, "zzz", "spin", "reference", "sft", {}, [row["id"]], [])

    judged = preference("q0?", "abc", "zzzz", "rlaif", "a", "b", {}, [], [])
    return [*(pair(row) for row in rows[:4]), judged]


SAMPLING = {"max_tokens": 8, "temperature": 0.5, "seed": 0, "judges": ["none"], "judge_mode": "logprob", "budget": 0.0}
TRAINING = dict(learning_rate=1e-3, epochs=1, max_length=64, gradient_accumulation=1, batch_size=2, beta=0.1, seed=1)


def kept_out(rows):
    return [row | {"source": "rag"} for row in rows[6:]]


def play(sft, pairs, folder, rows, more_rounds=2, **changes):
    return train_rounds(
        sft, pairs, folder, more_rounds=more_rounds, sampling=SAMPLING, store=folder / "calls.sqlite",
        vocabulary=folder / "none", held_out=kept_out(rows), settings=DpoSettings(**TRAINING | changes), progress=False,
    )  # fmt: skip


def test_each_round_plays_with_the_model_of_the_last(base, spin, rows, tmp_path, monkeypatch):
    """Rounds that all sample from the first model are more epochs on the same pairs, not self-play."""
    calls = []
    monkeypatch.setattr(
        "kyara_utils.preference.rounds.train_dpo",
        lambda policy, pairs, *given: calls.append((policy, pairs)) or train_dpo(policy, pairs, *given),
    )
    rounds, rejects, usage = play(base, spin, tmp_path, rows)
    assert [one["model"] for one in rounds] == ["dpo_round_1", "dpo_round_2", "dpo"]
    assert [policy.name for policy, _ in calls] == [base.name, "dpo_round_1", "dpo_round_2"]
    assert all(abs(one["curve"][0]["loss"] - 0.6931) < 1e-3 for one in rounds), "each round starts at its reference"
    texts = [{row["rejected"][0]["content"] for row in pairs if row["rejected_model"] == n} for (_, pairs), n in
             zip(calls, ("sft", "dpo_round_1", "dpo_round_2"), strict=True)]  # fmt: skip
    assert texts[0] == {"zzz"} and texts[1] and texts[2] and not texts[1] & texts[2]
    models = [{row["rejected_model"] for row in pairs} for _, pairs in calls]
    assert models == [{"sft", "b"}, {"sft", "dpo_round_1"}, {"dpo_round_1", "dpo_round_2"}]
    assert all(one["made"] == 4 for one in rounds[1:]) and usage["calls"] == 8
    assert len({one["held_out"] for one in rounds}) == 3
    table = rounds_held_out(rounds, kept_out(rows))
    assert [(row["split"], row["n"]) for row in table] == [("rag", 2)] * 3
    assert [row["loss"] for row in table] == [one["held_out"] for one in rounds]
    again, _, spent = play(base, spin, tmp_path, rows)
    assert [one["weights"] for one in again] == [one["weights"] for one in rounds]
    assert all(one["reused"] for one in again) and (spent["calls"], spent["stored"]) == (0, 8)
    assert len(rejects) == sum(one["made"] for one in rounds[1:]) - len(texts[1]) - len(texts[2])


def test_soft_rounds_train_on_win_probabilities(base, spin, rows, tmp_path, monkeypatch):
    """The soft loss without chances would train on certain wins that nobody measured."""
    own = [row | {"source": "sppo", "chosen_win": 0.8, "rejected_win": 0.3} for row in spin[:4]]

    def ranked(client, judge, parents, *given, **limits):
        assert set(parents) == {row["prompt"][0]["content"] for row in own} and given[0] == 3
        return [row | {"id": "new" + row["id"], "chosen_win": 0.7} for row in own], []

    class Ranker(Judge):
        usage = {"calls": 2}
        __enter__ = __exit__ = lambda self, *given: self

    from kyara_utils.preference import rounds as module

    monkeypatch.setattr(module, "sppo_preferences", ranked)
    monkeypatch.setattr(module, "open_panel", lambda names, *given: Ranker())
    monkeypatch.setitem(SAMPLING, "sppo_samples", 3)
    rounds, _, usage = play(base, own, tmp_path, rows, more_rounds=1, loss="sppo_soft")
    target = [0.5 * ((w - 0.5) ** 2 + 0.2**2) / 0.1**2 for w in (0.8, 0.7)]
    assert [one["curve"][0]["loss"] for one in rounds] == pytest.approx(target, rel=1e-4) and usage["calls"] == 2


def test_what_cannot_play_says_so(base, spin, tmp_path):
    """More rounds without a pair to renew would train the same pairs again and call it self-play."""
    from kyara_utils.preference.rounds import play as one_round

    with pytest.raises(KyaraError, match="no pair is of SPIN or SPPO; raise spin_rows"):
        one_round(base, spin[4:], 2, SAMPLING, tmp_path / "c.sqlite", tmp_path)
