"""Reward models on this machine: any sequence classifier with one output, and ArmoRM by `armorm`, from safetensors.

Conversations of equal length go through together and none is padded, so a score does not depend on its neighbours, and
a model without a token for padding is no special case. Scores are kept as vectors are (`knowledge.vector_store`): each
conversation is rated once per model, and a killed run goes on.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kyara_utils.curation.armorm import ARCHITECTURE, GatedHead, answer_start, prompt_end
from kyara_utils.knowledge.vector_store import VectorStore, embed_passages
from kyara_utils.models.bases import find_base
from kyara_utils.models.chat_templates import token_ids
from kyara_utils.models.loading import weights_sha256
from kyara_utils.runs.env import device_and_dtype, keep_soft_caps
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.files import read_json
from kyara_utils.runs.tables import Row

LONGEST = 4096  # tokens of a conversation (ArmoRM's own limit); a longer one gets no score
PART = 16_384  # rows whose texts are held
AT_ONCE = 16_384  # tokens of one pass


class RewardModel:
    """Rates conversations; what `embed_passages` takes as an embedder, so that its scores are stored as vectors are.

    A vector holds 1 or 0 (rated or not), the score, and the rewards of the objectives where the model has several.
    """

    batch = 512  # conversations between two commits

    def __init__(self, folder: Path, longest: int = LONGEST) -> None:
        """folder: transformers model with safetensors. Raises `KyaraError` for a model that is no reward model."""
        from transformers import AutoTokenizer

        self.device, self.dtype, _ = device_and_dtype()
        self.longest, self.name = longest, f"reward:{weights_sha256(folder)}:{longest}"
        self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        gated = any(name.endswith(ARCHITECTURE) for name in read_json(folder / "config.json").get("architectures", []))
        self.head = GatedHead(folder, self.device) if gated else None
        self.start = answer_start(self.tokenizer) if gated else []
        self.dim = 2 + (self.head.objectives if self.head else 0)
        self.model = self._load(folder)

    def _load(self, folder: Path) -> Any:
        from transformers import AutoModel, AutoModelForSequenceClassification
        from transformers.utils import logging as noise

        noise.disable_progress_bar()
        keep_soft_caps()
        kind = AutoModel if self.head else AutoModelForSequenceClassification
        model = kind.from_pretrained(folder, dtype=self.dtype, use_safetensors=True, trust_remote_code=False)
        if not self.head and model.config.num_labels != 1:
            raise KyaraError(f"{folder} has {model.config.num_labels} outputs; a reward model has one")
        if model.config.pad_token_id is None:
            model.config.pad_token_id = -1  # a token that no text has: the score is that of the last one
        return model.to(self.device).eval()

    def passages(self, texts: list[str]) -> np.ndarray:
        """Conversations as JSON lists of messages → float32 [conversations, dim]."""
        found = np.zeros((len(texts), self.dim), np.float32)
        encoded = [self._encoded(json.loads(text)) for text in texts]
        for part in _of_equal_length(encoded, self.longest):
            ends = [prompt_end(encoded[at]["input_ids"], self.start) for at in part] if self.head else [0] * len(part)
            rated = [at for at, end in zip(part, ends, strict=True) if end >= 0]
            if rated:
                found[rated, 0] = 1.0
                found[rated, 1:] = self._rated([encoded[at] for at in rated], [end for end in ends if end >= 0])
        return found

    def _encoded(self, messages: list[Row]) -> dict[str, list[int]]:
        """By the chat template; a model without one (DeBERTa) reads a pair: what was said before, the last answer."""
        if self.tokenizer.chat_template:
            return {"input_ids": token_ids(self.tokenizer, messages)}
        before = "\n".join(message["content"] for message in messages[:-1])
        return dict(self.tokenizer(before, messages[-1]["content"]))

    def _rated(self, encoded: Sequence[dict[str, list[int]]], ends: list[int]) -> np.ndarray:
        """Scores, and rewards of the objectives behind them, float32 [rows, dim - 1]."""
        import torch

        given = {name: torch.tensor([row[name] for row in encoded], device=self.device) for name in encoded[0]}
        with torch.inference_mode():
            out = self.model(**given)
            if self.head is None:
                return out.logits.float().cpu().numpy()
            hidden = out.last_hidden_state
            prompts = hidden[torch.arange(len(ends)), torch.tensor(ends)]
            scores, rewards = self.head(hidden[:, -1], prompts)
            return torch.cat([scores[:, None], rewards], dim=1).cpu().numpy()


def _of_equal_length(encoded: Sequence[dict[str, list[int]]], longest: int) -> Iterator[list[int]]:
    """Positions of rows that may go through together; those longer than `longest` are left out."""
    lengths: dict[int, list[int]] = defaultdict(list)
    for at, row in enumerate(encoded):
        lengths[len(row["input_ids"])].append(at)
    for length in sorted(length for length in lengths if 0 < length <= longest):
        step = max(1, AT_ONCE // length)
        yield from (lengths[length][at : at + step] for at in range(0, len(lengths[length]), step))


def rewards(name: str, rows: Sequence[Row], store: VectorStore) -> list[float | None]:
    """Score every row's last answer by a model: a folder or `owner/name`; None where the row is too long for it.

    Holds a score for each row, and the texts of `PART` of them.
    """
    model, scores = RewardModel(find_base(name)), []
    for start in range(0, len(rows), PART):
        texts = [json.dumps(row["messages"], ensure_ascii=False) for row in rows[start : start + PART]]
        scores += [round(float(row[1]), 5) if row[0] else None for row in embed_passages(model, store, texts)]
    return scores
