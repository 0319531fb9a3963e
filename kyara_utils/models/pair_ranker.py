"""PairRM: a ranker that reads a prompt and two answers at once (Jiang et al. 2023, arXiv 2306.02561).

Marks, limits and the head as in llm-blender's `pairrm.py` and the model card of PairRM-hf.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kyara_utils.runs.env import device_and_dtype
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.files import read_json

Compared = tuple[str, str, str]  # prompt, first answer, second answer

SOURCE_TOKENS, ANSWER_TOKENS = 1224, 412  # the limits it was trained with; it cuts by design
MARKS = ("<|source|>", "<|candidate1|>", "<|candidate2|>")


def is_pair_ranker(folder: Path) -> bool:
    """Whether a folder's config.json names PairRM's architecture."""
    return "DebertaV2PairRM" in read_json(Path(folder) / "config.json").get("architectures", [])


class PairRanker:
    """PairRM: both answers behind one prompt, each read at its own mark; not symmetric, so both orders count."""

    def __init__(self, folder: Path):
        from transformers import AutoConfig, AutoTokenizer, DebertaV2Model

        self.device, self.tokenizer = device_and_dtype()[0], AutoTokenizer.from_pretrained(folder)
        config, weights = AutoConfig.from_pretrained(folder), read_weights(folder)
        self.model = DebertaV2Model(config)
        prefix = "pretrained_model."
        own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        if missing := self.model.load_state_dict(own, strict=False).missing_keys:
            raise KyaraError(f"{folder} lacks {missing[0]}; fetch the whole model")
        self.model.to(self.device).eval()
        self.head = [weights[f"head_layer.{layer}.{part}"].to(self.device) for layer in (1, 4)
                     for part in ("weight", "bias")]  # fmt: skip
        self.marks = [getattr(config, name) for name in ("source_prefix_id", "cand1_prefix_id", "cand2_prefix_id")]

    def margins(self, pairs: Sequence[Compared]) -> list[float]:
        """Mean over the model's tasks of the first's score less the second's."""
        return [self._margin(self._tokens(pair)) for pair in pairs]

    def _tokens(self, pair: Compared) -> list[int]:
        ids = self.tokenizer.encode(MARKS[0] + pair[0], max_length=SOURCE_TOKENS, truncation=True)
        most = (SOURCE_TOKENS + 2 * ANSWER_TOKENS - len(ids)) // 2
        for mark, answer in zip(MARKS[1:], pair[1:], strict=True):
            ids = ids + self.tokenizer.encode(mark + answer, max_length=most, truncation=True)
        return ids

    def _margin(self, ids: list[int]) -> float:
        import torch

        with torch.inference_mode():
            hidden = self.model(torch.tensor([ids], device=self.device)).last_hidden_state[0]
            source, one, two = (hidden[ids.index(mark)] for mark in self.marks)
            into, into_bias, out, out_bias = self.head
            scores = [
                torch.tanh(into @ torch.cat([source, side]) + into_bias) @ out.T + out_bias for side in (one, two)
            ]
            return float((scores[0] - scores[1]).mean())


def read_weights(folder: Path) -> dict[str, Any]:
    """All tensors of a folder's safetensors, in fp32."""
    from safetensors.torch import load_file

    found: dict[str, Any] = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        found |= {name: value.float() for name, value in load_file(path).items()}
    if not found:
        raise KyaraError(f"{folder} has no safetensors; fetch the whole model")
    return found
