"""The training itself, of either kind, in one of its processes: load, train or go on, measure, save."""

import logging
import time
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

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

    Rows of SFT: input_ids and labels; of DPO: prompt_ids, chosen_ids, rejected_ids, and `WINS` for sppo_soft. Returns
    curve[{step, loss, learning_rate, …}], seconds, processes, peak_gb; SFT adds sequences (packs or rows of
    an epoch), epochs and loop_seconds (both since a checkpoint that it went on from), DPO final_accuracy, final_margin
    and first_margin (of the first pair; in units of beta × log-ratio).
    """
    settings, kind = job.settings, job.settings.kind
    arguments = trl_internals.one_device(trainer_config(settings, job.checkpoints, job.dtype))
    model, tokenizer = load_for_training(job.model_dir, settings, job.dtype), loading.load_tokenizer(job.model_dir)
    started, resume = time.time(), trainer_run.last_checkpoint(job.checkpoints)
    if resume and progress:
        log.info("%s: going on from %s", job.out_dir, resume.name)
    trainer = {"sft": sft_trainer, "dpo": dpo_trainer}[kind](model, tokenizer, rows, arguments)
    check_world(trainer.args.world_size, job.processes)
    trl_internals.own_adapters(model)
    label = f"SFT {settings.stage}" if kind == "sft" else "DPO"
    if kind == "sft":
        trl_internals.count_tokens_from(trainer, trainer_run.tokens_seen(resume))
    loop = trainer_run.run_trainer(trainer, label, progress, resume, settings.stop_at)
    found = _speed_facts(trainer, resume, loop) if kind == "sft" else _final_rewards(trainer, len(rows))
    found |= {"seconds": round(time.time() - started, 1), "processes": trainer.args.world_size}
    save_trained(trainer, tokenizer, Path(job.model_dir), Path(job.out_dir), settings.method)
    curve = trainer_run.curve(trainer.state.log_history, **COLUMNS[kind])
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


def dpo_trainer(model, tokenizer, rows: list[Row], arguments):
    """Return TRL's trainer on pairs of token ids, the reference's log-probabilities computed."""
    from datasets import Dataset

    with redirect_stderr(StringIO()):  # TRL's own progress bar for the reference cannot be turned off
        return trl_internals.pair_trainer()(
            model=model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
            data_collator=trl_internals.collator(tokenizer.pad_token_id),
        )  # fmt: skip


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
