"""Self-play in rounds: the model that a round leaves answers the prompts of the next, and is its reference.

SPIN (https://arxiv.org/abs/2401.01335) trains from its second round on with that round's pairs and the last one's, as
its reference implementation does (uclaml/SPIN, README); SPPO (https://arxiv.org/abs/2405.00675) with the new ones only.
Pairs of other sources (RLAIF, published sets, exact checks) are not made anew and are trained on in the first round.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from kyara_utils.llm import add_usage, connect, trained
from kyara_utils.models.loading import load_model, load_tokenizer
from kyara_utils.models.serving import servable
from kyara_utils.preference.candidates import answer_prompts
from kyara_utils.preference.judges import open_panel
from kyara_utils.preference.preference_rows import mix, spin_preferences
from kyara_utils.preference.sppo import sppo_preferences
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row
from kyara_utils.training.dpo import train_dpo
from kyara_utils.training.pair_rows import prepare_pairs
from kyara_utils.training.settings import DpoSettings
from kyara_utils.training.sft import ALL, FIRST, held_out_losses

SEED_STEP = 1000  # between rounds, so that no round repeats another's samples


def train_rounds(
    sft: Path, pairs: list[Row], folder: Path, *, more_rounds: int, sampling: Row, store: Path, vocabulary: Path,
    held_out: list[Row], settings: DpoSettings, progress: bool = True, held_out_pairs: Sequence[Row] = (),
) -> tuple[list[Row], list[Row], Row]:  # fmt: skip
    """Train `sft` on `pairs`, then `more_rounds` times on pairs of its own play; return (rounds, rejects, usage).

    `sampling`: the parameters of step 06, whose judges, limits and temperature later rounds keep. `settings`: those of
    every round. `held_out_pairs`, prepared like `pairs`, are looked at while a round trains. The last model is
    `folder`/dpo, those before dpo_round_1 and so on; finished ones are not trained again. Each round: round, model,
    made (pairs tried), pairs, sources, held_out (nats per supervised token), held_out_by_source{source: loss}, and the
    record of `train_dpo`. Raises `KyaraError` where nothing is left to play with.
    """
    rounds, rejects, usage, policy, last = [], [], {}, sft, pairs
    for number in range(1, more_rounds + 2):
        made, data = len(pairs), pairs
        if number > 1:
            fresh, rejected, spent = play(policy, pairs, number, sampling, store, vocabulary)
            fresh, unfit, _ = prepare_pairs(fresh, load_tokenizer(sft), settings.max_length, settings.loss)
            made, usage = len(fresh) + len(rejected + unfit), add_usage(usage, spent)
            rejects += rejected + unfit
            data, last = mix([fresh, [row for row in last if row["source"] == "spin"]])[0], fresh
        model = folder / ("dpo" if number > more_rounds else f"dpo_round_{number}")
        record = train_dpo(policy, data, model, settings, progress, held_out_pairs)
        rounds.append(record | _facts(number, model, made, data, held_out))
        policy = model
    return rounds, rejects, usage


def _facts(number: int, model: Path, made: int, data: list[Row], held_out: list[Row]) -> Row:
    losses = held_out_losses(load_model(model), load_tokenizer(model), held_out) if held_out else {}
    losses.pop(FIRST, None)
    sources = sorted({row["source"] for row in data})
    return {
        "round": number, "model": model.name, "made": made, "pairs": len(data), "sources": sources,
        "held_out": losses.pop(ALL, None), "held_out_by_source": losses,
    }  # fmt: skip


def play(
    policy: Path, pairs: list[Row], number: int, sampling: Row, store: Path, vocabulary: Path
) -> tuple[list[Row], list[Row], Row]:
    """Make the pairs of round `number` with the model in `policy`; return (pairs, rejects, usage).

    Every prompt of a `spin` or `sppo` pair in `pairs` gives one new pair or one reject.
    """
    spin = [row for row in pairs if row["source"] == "spin"]
    sppo = {row["prompt"][-1]["content"]: row["parents"] for row in pairs if row["source"] == "sppo"}
    if not spin and not sppo:
        raise KyaraError("more_rounds: no pair is of SPIN or SPPO; raise spin_rows in step 06 or set more_rounds to 0")
    seed = sampling["seed"] + SEED_STEP * (number - 1)
    limits = {"max_tokens": sampling["max_tokens"], "temperature": sampling["temperature"], "seed": seed}
    with connect(trained(policy.name, servable(policy)), store) as client:
        gold = [{"id": row["parents"][0], "messages": row["prompt"] + row["chosen"]} for row in spin]
        samples = answer_prompts(client, [row["prompt"][-1]["content"] for row in spin], **limits)
        made, rejects = spin_preferences(gold, samples)
        usage = client.usage
        if sppo:
            asked = (rankers(pairs, sampling["judges"]), store, vocabulary, sampling["budget"], sampling["judge_mode"])
            with open_panel(*asked) as judge:
                ranked, rejected = sppo_preferences(client, judge, sppo, sampling["sppo_samples"], **limits)
            made, rejects, usage = made + ranked, rejects + rejected, add_usage(client.usage, judge.usage)
    return made, rejects, usage


def rankers(pairs: list[Row], judges: Sequence[str]) -> list[str]:
    """Those of step 06's judges that ranked the SPPO pairs: one that failed its test there ranks no later round."""
    notes = {row["verdicts"] for row in pairs if row["source"] == "sppo"}
    believed = {name for note in notes for name in json.loads(note).get("judge", "").split(", ")}
    return [name for name in judges if name in believed]
