"""What a training stage is told: one typed object, whose fields SFT and DPO share where they mean the same.

The fields are what our own code reads (memory, estimates, keys). All else of TRL's and PEFT's configurations goes
through `trainer` and `lora` unchanged; `trainer_config` says which names those may not hold, and why.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from kyara_utils.models.precision import choose_precision
from kyara_utils.training.losses import check_loss
from kyara_utils.training.methods import check_method
from kyara_utils.training.trainer_config import check_lora, check_trainer

KEEP_WEIGHTS = (
    "processes",
    "stop_at",
    "max_displacement",
)  # fields that decide when and where, not which weights come out
KEEP_WEIGHTS_TOO = ("save_steps", "save_total_limit")  # the same within `trainer`


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of one stage.

    learning_rate: the highest, after the warm-up. epochs: passes over the rows. max_length: tokens of a row, or of a
    pack when packing. batch_size: rows, packs or pairs of a step in one process; gradient_accumulation: steps of an
    update. method: full, lora or qlora. backend: trl, unsloth, or a launch configuration of params/accelerate, then in
    `processes` processes (0: one for each GPU). stop_at: seconds since the epoch after which it saves and ends, 0 for
    never. trainer, lora: further fields of TRL's configuration and PEFT's LoraConfig; `trainer` with `save_steps` keeps
    checkpoints, from which an interrupted stage goes on.
    """

    learning_rate: float
    epochs: float = 1.0
    max_length: int = 1024
    batch_size: int = 1
    gradient_accumulation: int = 1
    seed: int = 0
    method: str = "full"
    backend: str = "trl"
    processes: int = 0
    stop_at: float = 0.0
    trainer: dict[str, Any] = field(default_factory=dict)
    lora: dict[str, Any] = field(default_factory=dict)

    kind = ""

    @property
    def save_steps(self) -> int:
        """Steps between two checkpoints; 0 keeps none."""
        return int(self.trainer.get("save_steps", 0))

    def deciding(self) -> dict[str, Any]:
        """Return what decides the weights, for the key and the record of a stage."""
        found = {name: value for name, value in asdict(self).items() if name not in KEEP_WEIGHTS}
        found["trainer"] = {name: value for name, value in self.trainer.items() if name not in KEEP_WEIGHTS_TOO}
        return found

    def check(self) -> None:
        """Raise `KyaraError` for a setting that cannot be trained with, before anything is loaded."""
        check_method(self.method, self.backend, choose_precision()[0])
        check_trainer(self.kind, self.trainer)
        check_lora(self.lora, self.method)


@dataclass(frozen=True, kw_only=True)
class SftSettings(Settings):
    """Settings of supervised fine-tuning; `stage` names it in the record (base, refined)."""

    stage: str = "base"

    kind = "sft"

    @property
    def packing(self) -> bool:
        """Whether rows are packed into sequences of `max_length`."""
        return self.trainer.get("packing", True)

    def unpacked(self) -> "SftSettings":
        """The same settings without packing."""
        return replace(self, trainer={**self.trainer, "packing": False})


@dataclass(frozen=True, kw_only=True)
class DpoSettings(Settings):
    """Settings of preference training.

    beta: how dearly distance from the reference is paid. loss: sigmoid, ipo, sppo_hard or sppo_soft (rows with
    `chosen_win` and `rejected_win`). sft_weight: share of the chosen answer's negative log-likelihood added (RPO).
    max_displacement: nats per token that chosen answers may lose on average against the reference before training ends
    with an error; 0 never ends it. At 1 an answer of 30 tokens is 10¹³ times less likely than before.
    """

    beta: float = 0.1
    loss: str = "sigmoid"
    sft_weight: float = 0.0
    max_displacement: float = 1.0

    kind = "dpo"

    def check(self) -> None:
        """Raise `KyaraError` for a setting that cannot be trained with, before anything is loaded."""
        check_loss(self.loss, self.sft_weight, self.beta)
        super().check()


KINDS: dict[str, type[Settings]] = {kind.kind: kind for kind in (SftSettings, DpoSettings)}
