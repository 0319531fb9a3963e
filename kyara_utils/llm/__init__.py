"""Ground floor: one chat client for every provider, every call in a ledger, prompts as files."""

from kyara_utils.llm.accepted import until_accepted
from kyara_utils.llm.ask import complete, expected, label_logprobs, log_odds, score
from kyara_utils.llm.client import Client, add_usage
from kyara_utils.llm.connect import connect, model_file
from kyara_utils.llm.endpoints import Model, find_model, trained
from kyara_utils.llm.prompts import load_prompt
from kyara_utils.llm.protocol import Request, Response

__all__ = [
    "Client", "Model", "Request", "Response", "add_usage", "complete", "connect", "expected", "find_model",
    "label_logprobs", "load_prompt", "log_odds", "model_file", "score", "trained", "until_accepted",
]  # fmt: skip
