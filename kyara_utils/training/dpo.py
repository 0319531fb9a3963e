"""Direct preference optimisation with TRL, on pairs in its conversational format.

The reference log-probabilities are computed once before training: one copy of the model in memory instead of
two, and the reference is certainly the model in `model_dir`. Paper: https://arxiv.org/abs/2305.18290.
"""

from collections.abc import Sequence
from pathlib import Path

from kyara_utils.models import loading
from kyara_utils.models.bases import check_tokenizer
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row
from kyara_utils.training.data import fingerprint
from kyara_utils.training.launch import run_job
from kyara_utils.training.losses import WINS
from kyara_utils.training.pair_rows import PAIR_IDS, prepare_pairs
from kyara_utils.training.settings import DpoSettings
from kyara_utils.training.stage import run_stage

WATCHED = 64  # held-out pairs that training looks at every few steps; the report afterwards takes more


def train_dpo(
    model_dir: Path, pairs: list[Row], out_dir: Path, settings: DpoSettings, progress: bool = True,
    held_out: Sequence[Row] = (),
) -> Row:  # fmt: skip
    """Train the model in `model_dir` on preference rows and write it to `out_dir`; return `training.json`.

    `pairs` come from `prepare_pairs`; one that it would reject is a `KyaraError`, since TRL would cut it. Of `held_out`
    pairs at most `WATCHED` are looked at on the way.
    Record: that of `run_stage`, with pairs, curve[{step, loss, learning_rate, accuracy, margin, chosen_reward,
    rejected_reward}], watched (the last four of held-out pairs, by step), final_accuracy and final_margin after
    training, over all or `fit.LOOKED_AT` training pairs (margins in units of beta × log-ratio), first_margin of the
    first pair, seconds, processes, peak_gb. An unchanged finished stage is reused.
    """
    if not pairs:
        raise KyaraError("no preference pairs to train on; judge more pairs in the step before")
    settings.check()
    tokenizer = loading.load_tokenizer(model_dir)
    check_tokenizer(model_dir, tokenizer)
    few = -(-len(held_out) // WATCHED) or 1
    watched = list(held_out)[::few]
    kept, rejects, _ = prepare_pairs([*pairs, *watched], tokenizer, settings.max_length, settings.loss)
    if rejects:
        row = rejects[0]
        raise KyaraError(f"preference {row['id']}: {row['rule']}, {row['detail']}; drop it with prepare_pairs")
    wins = WINS if settings.loss == "sppo_soft" else ()
    rows = [{name: pair[name] for name in PAIR_IDS} | {name: float(pair[name]) for name in wins} for pair in kept]
    rows = [row | {"watched": at >= len(pairs)} for at, row in enumerate(rows)]
    data = fingerprint(rows, *PAIR_IDS, *wins, "watched")
    return run_stage(
        model_dir, out_dir, settings, data, lambda job: run_job(job, rows, progress), {"pairs": len(pairs)}
    )
