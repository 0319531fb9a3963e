"""Held-out pairs beside training pairs: figures by hand, a tiny model, and the end when chosen answers collapse."""

import math
from dataclasses import replace

import pytest
import test_step_pairs as steps
import test_training as shared

from kyara_utils.llm import Model, connect
from kyara_utils.models.serving import servable
from kyara_utils.preference.pair_report import length_drift, pair_figures, pair_report, reward_lines
from kyara_utils.runs.errors import KyaraError
from kyara_utils.training import report
from kyara_utils.training.pair_rows import prepare_pairs
from kyara_utils.training.trainer_run import WINDOW, check_displacement

cache, tiny_gguf, base, tokenizer, pairs = (
    getattr(shared, name) for name in ("cache", "tiny_gguf", "base", "tokenizer", "pairs")
)


def test_figures_by_hand():
    found = pair_figures([(1.0, -1.0), (-2.0, -3.0), (-3.0, 0.0), (0.0, 0.0)], [10, 10, 10, 10], beta=0.5)
    assert (found["n"], found["accuracy"], found["displaced"]) == (4, 0.5, 0.5), "a tie is no preference"
    assert (found["margin"], found["chosen"], found["rejected"]) == (0.0, -1.0, -1.0) and found["per_token"] == -0.1
    assert (found["low"], found["high"]) == pytest.approx((0.1500, 0.8500), abs=1e-4)  # Wilson, 2 of 4
    assert found["margin_low"] < 0 < found["margin_high"] and found["chosen_low"] < -1 < found["chosen_high"]


def test_lengths_before_and_after():
    texts = [{"answer": "a" * n} for n in (10, 20, 30)], [{"answer": "a" * n} for n in (20, 20, 60)]
    whole, first, _ = length_drift(["x", "x", "y"], *texts)
    assert (whole["source"], whole["n"], whole["before"], whole["change"]) == ("all", 3, 20, pytest.approx(40 / 3))
    assert (first["source"], first["after"], first["change"]) == ("x", 20, 5) and first["low"] <= 5 <= first["high"]
    assert length_drift([], [], []) == []


def test_a_solution_goes_on_from_the_very_tokens_that_are_trained(base, tokenizer, tmp_path):
    """A second token of beginning, or none, is a prompt that the model never saw, and nobody would notice."""
    (pair,), _, client = steps.made(steps.WRONG, tokenizer=tokenizer)
    (request,) = [request for request in client.asked if request.raw]
    (row,), _, _ = prepare_pairs([pair], tokenizer, 1000)
    begun = tokenizer.decode(row["prompt_ids"])
    assert begun.startswith("<bos><start_of_turn>user") and begun.endswith(steps.FIRST) and begun.count("<bos>") == 1
    whole = steps.FIRST + pair["chosen"][0]["content"]
    assert tokenizer.decode(row["prompt_ids"] + row["chosen_ids"]).endswith(f"model\n{whole}")
    served = connect(Model("sft", gguf=str(servable(base, tmp_path / "sft.gguf"))), tmp_path / "calls.sqlite")
    with served as client:
        (response,) = client.ask([replace(request, max_tokens=1)], progress=False)
    assert not response.error and client.usage["prompt_tokens"] == len(row["prompt_ids"])


def test_training_reports_on_pairs_that_it_never_saw(base, tokenizer, pairs, tmp_path):
    """Held-out pairs that leaked into the loss would look as good as the training pairs and tell nothing."""
    kept, _, _ = prepare_pairs([{**row, "source": f"s{at % 2}"} for at, row in enumerate(pairs)], tokenizer, 64)
    turned = [
        {**row, "id": f"t{row['id']}", "chosen_ids": row["rejected_ids"], "rejected_ids": row["chosen_ids"]}
        for row in kept
    ]
    given = {**shared.DPO, "seed": 1, "max_displacement": 0.0}
    alone = shared.train_dpo(base, kept, tmp_path / "alone", **given)
    record = shared.dpo.train_dpo(base, kept, tmp_path / "dpo", shared.DpoSettings(**given), False, held_out=turned)
    assert record["curve"] == alone["curve"], "looking at held-out pairs changed the training"
    assert record["watched"] and not alone["watched"]
    last = record["watched"][-1]
    assert last["accuracy"] == 0.0 and last["margin"] < 0 and last["step"] <= record["curve"][-1]["step"]
    curve = report.rounds_curve([record | {"round": 1}])
    assert [row["held_out_accuracy"] for row in curve if row["held_out_accuracy"] != ""][-1] == 0.0
    rows = pair_report({"dpo": tmp_path / "dpo"}, base, {"training": kept, "held_out": turned}, 0.1)
    figures = {(row["split"], row["source"]): row for row in rows}
    assert figures["training", "all"]["margin"] == pytest.approx(record["final_margin"], abs=1e-4)
    assert figures["training", "all"]["accuracy"] == 1.0 and figures["held_out", "all"]["accuracy"] == 0.0
    assert figures["held_out", "all"]["margin"] == pytest.approx(-record["final_margin"], abs=1e-4)
    assert [row["n"] for row in rows] == [4, 2, 2, 4, 2, 2] and len(reward_lines(rows)) == 6
    one = record | {"round": 1, "model": "dpo", "sources": ["s0"], "held_out": None}
    assert report.rounds_table(None, [one], rows)[1]["held_out_pairs"] == 4
    assert report.dpo_metrics(4, one, rows)["held_out_accuracy"] == 0.0
    assert "held-out pairs: reward accuracy 0.00 [0.00, 0.49], n 4" in "".join(report.round_lines([one], None, rows))


def test_chosen_answers_that_collapse_end_training():
    """Both sides can lose while the margin grows; such a model says neither answer any more."""
    check = check_displacement(1.0, 1 / (0.1 * 20))  # β 0.1, 20 tokens: a reward of −2 is a nat per token
    for step in range(WINDOW):
        check("DPO", step, {"rewards/chosen": -2.0, "rewards/rejected": -9.0})
    check("DPO", WINDOW, {"eval_rewards/chosen": -99.0})
    with pytest.raises(KyaraError, match=r"DPO: chosen answers lost 1.01 nats a token by step 9, over 1.0; lower"):
        check("DPO", 9, {"rewards/chosen": -2.2})
    never = check_displacement(0.0, 1.0)
    for step in range(WINDOW + 1):
        never("DPO", step, {"rewards/chosen": -math.exp(step)})


def test_a_real_run_is_checked(base, pairs, tmp_path):
    """The check hangs on TRL's own log; a renamed column there would disarm it without a word. Any loss is over −9."""
    with pytest.raises(KyaraError, match="chosen answers lost -.* over -9.0"):
        shared.train_dpo(base, pairs, tmp_path / "dpo", **{**shared.DPO, "epochs": 6}, seed=1, max_displacement=-9.0)
