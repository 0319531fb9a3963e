"""Ask a model folder a question through transformers: the generation test of models that have no GGUF.

A model trained with a wrong mask or template shows here first: it does not stop, or writes the template's own tokens.
"""

from pathlib import Path
from typing import Any

from kyara_utils.training.stage import load_model, load_tokenizer


def speak(model_dir: Path, conversations: list[list[dict[str, str]]], max_tokens: int = 100) -> list[dict[str, Any]]:
    """Answer conversations that end with a user turn, greedily; return [{text, stopped, special}].

    `stopped`: a stop token of the generation config ended the answer within `max_tokens`. `special`: special tokens
    inside the answer, such as a second `<start_of_turn>`; a trained model writes none.
    """
    tokenizer, model = load_tokenizer(model_dir), load_model(model_dir).eval()
    return [_answer(model, tokenizer, messages, max_tokens) for messages in conversations]


def _answer(model, tokenizer, messages: list[dict[str, str]], max_tokens: int) -> dict[str, Any]:
    import torch

    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    prompt = prompt.to(model.device)
    with torch.inference_mode():
        whole = model.generate(**prompt, max_new_tokens=max_tokens, do_sample=False)
    ids = whole[0, prompt["input_ids"].shape[1] :].tolist()
    stops = model.generation_config.eos_token_id
    stopped = bool(ids) and ids[-1] in (stops if isinstance(stops, list) else [stops])
    body = ids[:-1] if stopped else ids
    special = [tokenizer.decode([number]) for number in body if number in tokenizer.all_special_ids]
    return {"text": tokenizer.decode(body, skip_special_tokens=True), "stopped": stopped, "special": special}
