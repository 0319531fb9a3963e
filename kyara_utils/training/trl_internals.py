"""Everything that reaches into TRL, transformers or accelerate behind their documented surface, in one place.

Written against TRL 1.14.2, transformers 5.17.0 and accelerate 1.15.0, the versions of constraints.txt. After an update
of any of them read this file first; tests/test_training_exact.py compares what comes out to the digit.
"""

from pathlib import Path

from kyara_utils.training.losses import WINS, sppo_loss

REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")


def one_device(arguments):
    """Return trainer arguments that use one GPU of a process that sees several.

    Kaggle's two T4 would else be driven by `DataParallel`, which TRL refuses.
    """
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments


def count_tokens_from(trainer, tokens: int) -> None:
    """Let the token count of a resumed SFT go on from `tokens`; TRL counts from 0 again."""
    trainer._total_train_tokens = tokens


def own_adapters(model) -> None:
    """Undo what TRL does to adapters: QLoRA's become bf16, and DPO adds a copy `ref`.

    Steps of 1e-4 are lost in bf16; of a checkpoint with `ref` the trainer loads that copy and not the trained adapter.
    """
    if not hasattr(model, "peft_config"):
        return
    if "ref" in model.peft_config:
        model.delete_adapter("ref")
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()


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


def pair_trainer():
    """Return TRL's `DPOTrainer` for pairs that are token ids already; rows with `WINS` train on `sppo_loss`."""
    from trl import DPOTrainer

    class PairTrainer(DPOTrainer):
        def _prepare_dataset(self, dataset, *arguments):
            return dataset  # tokenised by `pair_rows`: TRL would end every step of Step-DPO with <end_of_turn>

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
