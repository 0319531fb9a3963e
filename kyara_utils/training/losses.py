"""Preference losses: those of TRL by name, and the one it lacks, SPPO with soft probabilities.

TRL has SPPO for certain wins only. The paper (https://arxiv.org/abs/2405.00675, eq. 4.7) trains towards the
probability that a ranker gives; `sppo_loss` is that, as in its reference implementation (uclaml/SPPO, trainer.py).
"""

from typing import Any

from kyara_utils.runs.errors import KyaraError

LOSSES = {"sigmoid": "sigmoid", "ipo": "ipo", "sppo_hard": "sppo_hard", "sppo_soft": "sppo_hard"}  # ours: TRL's
WINS = ("chosen_win", "rejected_win")  # columns of a soft pair: mean probability to beat an answer of the same prompt


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
