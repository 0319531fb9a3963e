"""One training loop: a progress line, an end in time, clear errors, whole checkpoints, curves without noise."""

import math
import shutil
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.files import read_json

Check = Callable[[str, int, dict[str, Any]], None]
WINDOW = 8  # steps whose mean is looked at: a single small batch says little
# What a checkpoint holds beside its state: weights and optimizer as one process, FSDP and DeepSpeed write them.
CHECKPOINT = (("*.safetensors", "pytorch_model_fsdp*", "global_step*"), ("optimizer*", "global_step*"))


def run_trainer(
    trainer, label: str, progress: bool, checkpoint: Path | None = None, stop_at: float = 0.0,
    checks: Sequence[Check] = (),
) -> float:  # fmt: skip
    """Train with one progress line and return the seconds it took.

    A loss or gradient that is no number, one of `checks` (of label, step and logged values), and a disk that takes no
    checkpoint end it with a `KyaraError`; the last good checkpoint stays. So does `stop_at` (seconds since the epoch,
    0: never): the step under way is finished and saved, and the next run goes on from there.
    """
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(
        _watcher(label, progress and trainer.is_world_process_zero(), stop_at, (check_finite, *checks))
    )
    started = time.time()
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except Exception as error:  # a full disk has three faces: the system's, safetensors' and torch.save's
        if isinstance(error, OSError) or type(error).__name__ == "SafetensorError" or "inline_container" in str(error):
            folder = trainer.args.output_dir
            raise KyaraError(f"cannot write to {folder} ({error}); free or remount the disk, then rerun") from error
        raise
    state = trainer.state
    if state.global_step < state.max_steps:
        done = f"{label}: the time is up at step {state.global_step} of {state.max_steps}"
        raise KyaraError(f"{done}, which is saved; run the step again to go on from there")
    return time.time() - started


def _late(stop_at: float) -> bool:
    """Whether the time is up, by the clock of process 0: processes that stop at different steps wait for ever."""
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([time.time() > stop_at])[0]


def _watcher(label: str, progress: bool, stop_at: float, checks: Sequence[Check]):
    from tqdm import tqdm
    from transformers import TrainerCallback

    class Watcher(TrainerCallback):
        bar = None

        def on_train_begin(self, args, state, control, **kwargs):
            steps = {"total": state.max_steps, "initial": state.global_step}
            self.bar = tqdm(**steps, desc=label, mininterval=2, ascii=True, disable=not progress)

        def on_step_end(self, args, state, control, **kwargs):
            self.bar.update(1)
            if stop_at and state.global_step < state.max_steps and _late(stop_at):
                control.should_save = control.should_training_stop = True

        def on_log(self, args, state, control, logs=None, **kwargs):  # comes before the step's checkpoint
            for check in checks:
                check(label, state.global_step, logs or {})

        def on_train_end(self, args, state, control, **kwargs):
            self.bar.close()

    return Watcher()


def check_finite(label: str, step: int, logs: dict[str, Any]) -> None:
    """Raise `KyaraError` when a step's loss or gradient norm is no finite number."""
    for name in ("loss", "grad_norm"):
        if not math.isfinite(logs.get(name, 0.0)):
            fix = "lower learning_rate, look at the rows, and rerun: it goes on from the last good checkpoint, if any"
            raise KyaraError(f"{label}: {name} is {logs[name]} at step {step}; {fix}")


def check_displacement(limit: float, scale: float) -> Check:
    """Return a check that ends DPO once chosen answers have become much less likely than under the reference.

    The margin also grows while both sides lose, the rejected one faster (likelihood displacement: Razin et al. 2024,
    arXiv 2410.05779; Pal et al. 2024, arXiv 2402.13228), up to a model that says neither. limit: nats per token, over
    the last `WINDOW` steps, 0 for none; scale: nats per token of one unit of the logged reward.
    """
    seen: deque[float] = deque(maxlen=WINDOW)

    def check(label: str, step: int, logs: dict[str, Any]) -> None:
        seen.extend([logs["rewards/chosen"]] if "rewards/chosen" in logs else [])
        lost = -scale * sum(seen) / max(1, len(seen))
        if limit and len(seen) == WINDOW and lost > limit:
            fix = "lower learning_rate, raise beta or sft_weight, or raise max_displacement"
            raise KyaraError(
                f"{label}: chosen answers lost {lost:.2f} nats a token by step {step}, over {limit}; {fix}"
            )

    return check


def curve(history: list[dict[str, Any]], **renamed: str) -> list[dict[str, float]]:
    """Return one row per logged step: step, loss, learning_rate and the columns `renamed` (ours = the trainer's)."""
    names = {"step": "step", "loss": "loss", "learning_rate": "learning_rate", **renamed}
    steps = [entry for entry in history if "loss" in entry]
    return [{ours: entry.get(theirs) for ours, theirs in names.items()} for entry in steps]


def watched_curve(history: list[dict[str, Any]], **renamed: str) -> list[dict[str, float]]:
    """Return one row per look at held-out pairs: step and the columns `renamed`, without a learning rate."""
    looks = [entry for entry in history if "eval_loss" in entry]
    return [
        {"step": entry["step"]} | {ours: entry.get(f"eval_{theirs}") for ours, theirs in renamed.items()}
        for entry in looks
    ]


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint; half-written ones are removed.

    The trainer writes `trainer_state.json` last, so a checkpoint without a readable one was interrupted.
    """
    complete = []
    for path in Path(folder).glob("checkpoint-*"):
        step = read_json(path / "trainer_state.json").get("global_step")
        if step is not None and all(any(any(path.glob(p)) for p in patterns) for patterns in CHECKPOINT):
            complete.append((step, path))
        else:
            shutil.rmtree(path, ignore_errors=True)  # other processes of a launch do the same
    return max(complete)[1] if complete else None


def tokens_seen(checkpoint: Path | None) -> int:
    """Return the tokens trained on when a checkpoint was written; 0 without one."""
    history = read_json(checkpoint / "trainer_state.json").get("log_history", []) if checkpoint else []
    return int(max((entry.get("num_tokens", 0) for entry in history), default=0))


def share_trained(trainer, checkpoint: Path | None) -> float:
    """Return the share of the steps that were trained since `checkpoint`, for the speed of a resumed run."""
    before = read_json(checkpoint / "trainer_state.json").get("global_step", 0) if checkpoint else 0
    return 1 - before / trainer.state.max_steps
