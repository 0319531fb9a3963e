"""ArmoRM's head on published weights, without their remote code (arXiv 2406.12845; RLHFlow/RLHF-Reward-Modeling).

A linear layer reads rewards for several objectives off the last token's hidden state. A gate reads the hidden state at
the end of the prompt and says how much each objective counts there. Reward i is first relieved of the verbosity that it
correlates with: score = gate(prompt) · (rewards @ transform).
"""

from pathlib import Path
from typing import Any

from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.files import read_json

ARCHITECTURE = "ForRewardModelWithGating"
OBJECTIVES = (
    "helpsteer-helpfulness", "helpsteer-correctness", "helpsteer-coherence", "helpsteer-complexity",
    "helpsteer-verbosity", "ultrafeedback-overall_score", "ultrafeedback-instruction_following",
    "ultrafeedback-truthfulness", "ultrafeedback-honesty", "ultrafeedback-helpfulness", "beavertails-is_safe",
    "prometheus-score", "argilla-overall_quality", "argilla-judge_lm", "code-complexity", "code-style",
    "code-explanation", "code-instruction-following", "code-readability",
)  # fmt: skip
HEAD = ("regression_layer.", "gating.", "reward_transform_matrix")
# What stands between the prompt and the answer, by its first token: there the gate reads (Llama 3, Gemma 2).
ANSWER_STARTS = (
    "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "<end_of_turn>\n<start_of_turn>model\n",
)


class GatedHead:
    """The head of one model folder, in float32: hidden states to (scores, rewards of the objectives)."""

    def __init__(self, folder: Path, device: str) -> None:
        weights = _head_weights(folder)
        try:
            self.rewards = weights["regression_layer.weight"].to(device)
            self.transform = weights["reward_transform_matrix"].to(device)
            self.scale = weights["gating.logit_scale"].to(device)
            count = len([name for name in weights if name.startswith("gating.layers.") and name.endswith(".weight")])
            self.layers = [
                (weights[f"gating.layers.{at}.weight"].to(device), weights[f"gating.layers.{at}.bias"].to(device))
                for at in range(count)
            ]
        except KeyError as error:
            raise KyaraError(f"{folder} lacks {error} of ArmoRM's head; download the model again") from error
        self.temperature = read_json(folder / "config.json").get("gating_temperature", 10)

    @property
    def objectives(self) -> int:
        """How many objectives it rates; those of the published model are `OBJECTIVES`."""
        return len(self.rewards)

    def gate(self, prompts: Any) -> Any:
        """Weights of the objectives, float32 [rows, objectives], for hidden states at the end of the prompts."""
        import torch

        found = prompts.float()
        for at, (weight, bias) in enumerate(self.layers):
            found = torch.nn.functional.linear(torch.relu(found) if at else found, weight, bias)
        return torch.softmax(found / self.temperature, dim=-1) * self.scale

    def __call__(self, answers: Any, prompts: Any) -> tuple[Any, Any]:
        """Hidden states [rows, width] at the end of answers and of prompts → (scores [rows], rewards [rows, k])."""
        rewards = answers.float() @ self.rewards.T
        return (self.gate(prompts) * (rewards @ self.transform)).sum(dim=-1), rewards


def _head_weights(folder: Path) -> dict[str, Any]:
    """The head's tensors in float32, from one file or from many that an index names."""
    from safetensors import safe_open

    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            names = [name for name in tensors.keys() if name.startswith(HEAD)]  # noqa: SIM118 - it is no dict
            found |= {name: tensors.get_tensor(name).float() for name in names}
    return found


def answer_start(tokenizer: Any) -> list[int]:
    """The ids between a prompt and its answer in the chat template of the model's family."""
    for text in ANSWER_STARTS:
        if text.partition(">")[0] + ">" in tokenizer.get_vocab():
            return tokenizer(text, add_special_tokens=False)["input_ids"]
    raise KyaraError("this tokenizer has the turns of neither Llama 3 nor Gemma 2, where ArmoRM's gate reads")


def prompt_end(ids: list[int], start: list[int]) -> int:
    """The position at which the gate reads: where the last answer's start begins; -1 where there is none."""
    places = range(len(ids) - len(start), -1, -1)
    return next((at for at in places if ids[at : at + len(start)] == start), -1)
