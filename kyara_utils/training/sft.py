"""Supervised fine-tuning with TRL, the same on a laptop CPU, on a GPU and on several.

Only the assistant's turns carry the loss, rows are packed without crossing documents, and the held-out loss
is measured before and after on whole, unpacked rows. Two calls make Kyara's two stages: the second starts
from the first one's folder with a fresh optimizer.
"""

from pathlib import Path

from kyara_utils.models import loading
from kyara_utils.models.bases import check_tokenizer
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row
from kyara_utils.training.data import encoded, fingerprint, training_row
from kyara_utils.training.launch import Job, run_job
from kyara_utils.training.methods import packs
from kyara_utils.training.settings import SftSettings
from kyara_utils.training.stage import run_stage

ALL, FIRST = "all", "the first row"


def train_sft(
    model_dir: Path, rows: list[Row], held_out: list[Row], out_dir: Path, settings: SftSettings, progress: bool = True
) -> Row:
    """Train the model in `model_dir` on conversation rows and write it to `out_dir`; return `training.json`.

    `rows` and `held_out` come from `prepare_conversations`. A stage with the same weights, rows and settings is not
    trained again (`reused` is then true); an interrupted one goes on from its last complete checkpoint.
    Record: that of `run_stage`, with stage, rows, tokens, held_out_before/after (nats per supervised token, None
    without held-out rows), held_out_first (of the first row, after), held_out_by_source{source: [before, after]},
    curve[{step, loss, learning_rate, tokens}], sequences, seconds, tokens_per_second, processes, peak_gb.
    """
    if not rows:
        raise KyaraError(f"no rows to train stage {settings.stage} on; loosen the filters of the step before")
    if not packs(settings.backend, model_dir):
        settings = settings.unpacked()
    data = fingerprint([*rows, *held_out], "messages") + f"-{len(rows)}"
    facts = {"stage": settings.stage, "rows": len(rows)}
    return run_stage(model_dir, out_dir, settings, data, lambda job: _train(job, rows, held_out, progress), facts)


def _train(job: Job, rows: list[Row], held_out: list[Row], progress: bool) -> Row:
    tokenizer = loading.load_tokenizer(job.model_dir)
    check_tokenizer(job.model_dir, tokenizer)
    before = _losses_of(job.model_dir, tokenizer, held_out)
    ids = [training_row(tokenizer, row) for row in rows]
    tokens = sum(len(row["input_ids"]) for row in ids)
    measured = run_job(job, ids, progress)
    speed = tokens * measured.pop("epochs") / measured.pop("loop_seconds")
    after = _losses_of(job.out_dir, tokenizer, held_out)
    sources = [name for name in after if name not in (ALL, FIRST)]
    return {
        "held_out_before": before.get(ALL), "held_out_after": after.get(ALL), "held_out_first": after.get(FIRST),
        "held_out_by_source": {name: [before[name], after[name]] for name in sources}, **measured,
        "tokens": tokens, "tokens_per_second": round(speed, 1),
    }  # fmt: skip


def _losses_of(model_dir: Path, tokenizer, rows: list[Row]) -> dict[str, float]:
    return held_out_losses(loading.load_model(model_dir), tokenizer, rows) if rows else {}


def held_out_loss(model, tokenizer, rows: list[Row]) -> float:
    """Return the mean negative log-likelihood (nats) per supervised token of conversation rows, unpacked.

    Raises `KyaraError` without rows. Logits are computed at the supervised positions only.
    """
    return held_out_losses(model, tokenizer, rows)[ALL]


def held_out_losses(model, tokenizer, rows: list[Row]) -> dict[str, float]:
    """Return the held-out loss by source of the rows, of all under `ALL`, and of the first row alone under `FIRST`."""
    import torch

    if not rows:
        raise KyaraError("no held-out rows to measure; raise the held-out share")
    sums: dict[str, list[float]] = {}
    training = model.training
    model.eval()
    with torch.inference_mode():
        for row in rows:
            loss, tokens = _row_loss(model, *encoded(tokenizer, row))
            for name in {ALL, row.get("source") or ALL, *([] if sums else [FIRST])}:
                total = sums.setdefault(name, [0.0, 0])
                total[0], total[1] = total[0] + loss, total[1] + tokens
    model.train(training)
    return {name: loss / tokens for name, (loss, tokens) in sorted(sums.items())}


def _row_loss(model, ids, mask) -> tuple[float, int]:
    import torch

    places = torch.tensor([at for at in range(1, len(ids)) if mask[at]], device=model.device)
    tokens = torch.tensor([list(ids)], device=model.device)
    logits = model(tokens, use_cache=False, logits_to_keep=places - 1).logits[0]
    logits = (logits if len(logits) == len(places) else logits[places - 1]).float()  # Unsloth's Gemma 2 keeps all
    return float(torch.nn.functional.cross_entropy(logits, tokens[0, places], reduction="sum")), len(places)
