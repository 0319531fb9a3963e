"""The training itself, of either kind, in one of its processes: load, train or go on, measure, save."""

import logging
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from functools import partial
from io import StringIO
from pathlib import Path
from statistics import mean

from kyara_utils.models import loading
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row
from kyara_utils.training import trainer_run, trl_internals
from kyara_utils.training.memory import used_memory
from kyara_utils.training.methods import load_for_training, save_trained
from kyara_utils.training.trainer_config import trainer_config

log = logging.getLogger(__name__)
LOOKED_AT = 512  # training pairs at most whose rewards are measured afterwards: all would cost a quarter of an epoch
COLUMNS = {  # of the curve beside step, loss and learning_rate: ours = TRL's
    "sft": {"tokens": "num_tokens"},
    "dpo": {
        "accuracy": "rewards/accuracies", "margin": "rewards/margins",
        "chosen_reward": "rewards/chosen", "rejected_reward": "rewards/rejected",
    },
}  # fmt: skip


def fit(job, rows: list[Row], progress: bool) -> Row:
    """Train `job` (`launch.Job`) in this process, one of `job.processes`, and write the model.

    Rows of SFT: input_ids and labels; of DPO: prompt_ids, chosen_ids, rejected_ids, `WINS` for sppo_soft, and
    `watched`, true for held-out pairs, which are only looked at. Returns curve[{step, loss, learning_rate, …}],
    seconds, processes, peak_gb; SFT adds sequences (packs or rows of an epoch), epochs and loop_seconds (both since a
    checkpoint that it went on from), DPO watched[{step, accuracy, …}], final_accuracy, final_margin and first_margin
    (of the first pair; in units of beta × log-ratio).
    """
    settings, kind = job.settings, job.settings.kind
    rows, watched = ([row for row in rows if row.get("watched", False) is side] for side in (False, True))
    arguments = trl_internals.one_device(trainer_config(settings, job.checkpoints, job.dtype, bool(watched)))
    model, tokenizer = load_for_training(job.model_dir, settings, job.dtype), loading.load_tokenizer(job.model_dir)
    started, resume = time.time(), trainer_run.last_checkpoint(job.checkpoints)
    if resume and progress:
        log.info("%s: going on from %s", job.out_dir, resume.name)
    make = {"sft": sft_trainer, "dpo": partial(dpo_trainer, watched=watched)}[kind]
    trainer = make(model, tokenizer, rows, arguments)
    check_world(trainer.args.world_size, job.processes)
    trl_internals.own_adapters(model)
    label = f"SFT {settings.stage}" if kind == "sft" else "DPO"
    if kind == "sft":
        trl_internals.count_tokens_from(trainer, trainer_run.tokens_seen(resume))
    checks = [] if kind == "sft" else [_displacement(settings, rows)]
    loop = trainer_run.run_trainer(trainer, label, progress, resume, settings.stop_at, checks)
    history = list(trainer.state.log_history)  # the looks below are no part of it
    found = _speed_facts(trainer, resume, loop) if kind == "sft" else _final_rewards(trainer, len(rows))
    found |= {"seconds": round(time.time() - started, 1), "processes": trainer.args.world_size}
    save_trained(trainer, tokenizer, Path(job.model_dir), Path(job.out_dir), settings.method)
    curve = trainer_run.curve(history, **COLUMNS[kind])
    found |= {"watched": trainer_run.watched_curve(history, **COLUMNS[kind])} if kind == "dpo" else {}
    return {"curve": curve, **found, "peak_gb": used_memory(trainer.args.device.type)}


def check_world(found: int, wanted: int) -> None:
    """Raise `KyaraError` when another number of processes runs than was asked for: the batch would be another."""
    if found != wanted:
        raise KyaraError(f"{found} training processes run, {wanted} were asked for; start the job with this launcher")


def sft_trainer(model, tokenizer, rows: list[Row], arguments):
    """Return TRL's trainer on rows of input_ids and labels (−100 where no loss counts)."""
    from datasets import Dataset
    from trl import SFTTrainer

    return SFTTrainer(model=model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)


def dpo_trainer(model, tokenizer, rows: list[Row], arguments, watched: Sequence[Row] = ()):
    """Return TRL's trainer on pairs of token ids, with the reference's log-probabilities of all of them."""
    with redirect_stderr(StringIO()):  # TRL's own progress bar for the reference cannot be turned off
        return trl_internals.pair_trainer()(
            model=model, args=arguments, train_dataset=_pairs(rows), processing_class=tokenizer,
            eval_dataset=_pairs(watched) if watched else None,
            data_collator=trl_internals.collator(tokenizer.pad_token_id),
        )  # fmt: skip


def _pairs(rows: Sequence[Row]):
    from datasets import Dataset

    return Dataset.from_list([{name: value for name, value in row.items() if name != "watched"} for row in rows])


def _displacement(settings, rows: Sequence[Row]) -> trainer_run.Check:
    """The check on chosen answers; with every loss a reward is β × log-ratio, summed over the tokens."""
    tokens = mean(len(row["chosen_ids"]) for row in rows)
    return trainer_run.check_displacement(settings.max_displacement, 1 / (settings.beta * tokens))


def _speed_facts(trainer, resume: Path | None, loop: float) -> Row:
    epochs = trainer.state.epoch * trainer_run.share_trained(trainer, resume)
    return {"sequences": len(trainer.train_dataset), "epochs": epochs, "loop_seconds": loop}


def _final_rewards(trainer, count: int) -> Row:
    every = -(-count // LOOKED_AT)
    trainer.eval_dataset = trainer.train_dataset.select(range(0, count, every))  # with the reference's values
    final = trainer.evaluate()
    trainer.eval_dataset = trainer.train_dataset.select([0])
    first = trainer.evaluate()["eval_rewards/margins"]
    margin = final["eval_rewards/margins"]
    return {"final_accuracy": final["eval_rewards/accuracies"], "final_margin": margin, "first_margin": first}
