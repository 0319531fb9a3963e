"""Preference losses: those of TRL by name, and the one it lacks, SPPO with soft probabilities.

TRL has SPPO for certain wins only. The paper (https://arxiv.org/abs/2405.00675, eq. 4.7) trains towards the
probability that a ranker gives; `sppo_loss` is that, as in its reference implementation (uclaml/SPPO, trainer.py).
"""

from pathlib import Path
from typing import Any

from kyara_utils.runs.errors import KyaraError

LOSSES = {"sigmoid": "sigmoid", "ipo": "ipo", "sppo_hard": "sppo_hard", "sppo_soft": "sppo_hard"}  # ours: TRL's
WINS = ("chosen_win", "rejected_win")  # columns of a soft pair: mean probability to beat an answer of the same prompt
REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")


def check_loss(loss: str, sft_weight: float, beta: float) -> None:
    """Raise `KyaraError` for a loss that cannot be trained."""
    if loss not in LOSSES:
        raise KyaraError(f"loss: unknown value {loss!r}; use one of {', '.join(LOSSES)}")
    if beta <= 0 or sft_weight < 0:
        raise KyaraError(f"beta {beta} must be above 0 and sft_weight {sft_weight} at least 0; correct them")
    if loss == "sppo_soft" and sft_weight:
        raise KyaraError("sft_weight: sppo_soft is not summed with an SFT term; set it to 0.0 or use another loss")


def loss_arguments(loss: str, sft_weight: float) -> dict[str, Any]:
    """Return TRL's arguments for `loss`, plus `sft_weight` × the NLL of the chosen answer (RPO's sum) when above 0."""
    if not sft_weight:
        return {"loss_type": [LOSSES[loss]]}
    return {"loss_type": [LOSSES[loss], "sft"], "loss_weights": [1.0, sft_weight]}


def sppo_loss(chosen_logratio, rejected_logratio, chosen_win, rejected_win, beta: float):
    """Return SPPO's loss per pair: ½[(Δ_w − (p_w − ½)/β)² + (Δ_l − (p_l − ½)/β)²], Δ = log π − log π_ref.

    All arguments are tensors of one number a pair. With p = (1, 0) it is half of TRL's `sppo_hard`.
    """
    winner = chosen_logratio - (chosen_win - 0.5) / beta
    loser = rejected_logratio - (rejected_win - 0.5) / beta
    return 0.5 * (winner**2 + loser**2)


def collator(pad_token_id: int):
    """Return TRL's collator for pairs, passing on the columns `WINS`."""
    import torch
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    class Collator(DataCollatorForPreference):
        def torch_call(self, examples):
            batch = super().torch_call(examples)
            for name in WINS:
                if name in examples[0]:
                    batch[name] = torch.tensor([example[name] for example in examples])
            return batch

    return Collator(pad_token_id=pad_token_id)


def trainer_class():
    """Return TRL's `DPOTrainer` for pairs that are token ids already; rows with `WINS` train on `sppo_loss`."""
    from trl import DPOTrainer

    class PairTrainer(DPOTrainer):
        def _prepare_dataset(self, dataset, *arguments):
            return dataset  # tokenised by `pairs`: TRL would end every step of Step-DPO with <end_of_turn>

        def _precompute_ref_logps(self, dataset, *arguments):
            folder = Path(self.args.output_dir) / "reference"  # else each process reads its own temporary folder
            folder.mkdir(parents=True, exist_ok=True)
            dataset._get_cache_file_path = lambda fingerprint: str(folder / f"{fingerprint}.arrow")
            return super()._precompute_ref_logps(dataset, *arguments)

        def _set_signature_columns_if_needed(self):
            super()._set_signature_columns_if_needed()
            self._signature_columns += [name for name in WINS if name not in self._signature_columns]

        def _compute_loss(self, model, inputs, return_outputs):
            wins = [inputs.pop(name) for name in WINS if name in inputs]
            if not wins:
                return super()._compute_loss(model, inputs, return_outputs)
            loss, outputs = _soft_loss(self, model, inputs, *wins)
            return (loss, outputs) if return_outputs else loss

        def compute_ref_log_probs(self, model, inputs):
            inputs = {k: v for k, v in inputs.items() if k not in WINS}
            return super().compute_ref_log_probs(_in_mixed_precision(self.accelerator, model), inputs)

    return PairTrainer


def _in_mixed_precision(accelerator, model):
    """The model as training will compute it. TRL asks the reference before the model is wrapped, so in fp32.

    In bf16 the policy then differs from its own reference before the first step (a first loss of 0.77 for ln 2).
    """
    from accelerate.utils import convert_to_fp32

    def forward(**inputs):
        with accelerator.autocast():
            outputs = model(**inputs)
        return convert_to_fp32(outputs)

    return forward


def _soft_loss(trainer, model, inputs, chosen_win, rejected_win):
    from trl.trainer.utils import selective_log_softmax

    batch = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    outputs, mask = model(**batch, use_cache=False), inputs["completion_mask"][:, 1:]
    logps = selective_log_softmax(outputs.logits[:, :-1], inputs["input_ids"][:, 1:])
    chosen, rejected = (logps * mask).sum(dim=1).chunk(2)
    ratios = chosen - inputs[REFERENCE[0]], rejected - inputs[REFERENCE[1]]
    _log_rewards(trainer, *(trainer.beta * ratio.detach() for ratio in ratios))
    return sppo_loss(*ratios, chosen_win, rejected_win, trainer.beta).mean(), outputs


def _log_rewards(trainer, chosen, rejected) -> None:
    metrics = trainer._metrics["train" if trainer.model.training else "eval"]
    chosen, rejected = trainer.accelerator.gather(chosen), trainer.accelerator.gather(rejected)
    facts = {"chosen": chosen, "rejected": rejected, "margins": chosen - rejected}
    facts["accuracies"] = (chosen > rejected).float()
    for name, value in facts.items():
        metrics[f"rewards/{name}"].append(value.mean().item())
