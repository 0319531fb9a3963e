"""The test after training: does the model answer, stop, keep to the script it was asked in, leave the template alone?

A model trained with a wrong mask or template shows here first: it does not stop, or writes the template's own tokens.
"""

from pathlib import Path
from typing import Any

from kyara_utils.llm import Request, connect
from kyara_utils.llm import trained as trained_model
from kyara_utils.models.loading import load_model, load_tokenizer
from kyara_utils.text.normalise import script_of

Row = dict[str, Any]
MARKS = ("<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>", "<pad>")
CHECKS = ("stopped", "right_script", "template_intact")


def generation_test(
    name: str, model_dir: Path, conversations: list[list[dict[str, str]]], store: Path, max_tokens: int = 200
) -> list[Row]:
    """Answer conversations that end with a user turn, greedily, by `model.gguf` in the folder or by transformers.

    Rows: question, answer, stopped (by itself within `max_tokens`), right_script (that of the question, where both
    have one), template_intact (no token of the chat template within the answer). `store`: the recipe's ledger.
    """
    if (model_dir / "model.gguf").is_file():
        with connect(trained_model(name, model_dir / "model.gguf"), store) as client:
            requests = [Request(messages, max_tokens, repeat_penalty=1.1) for messages in conversations]
            found = client.ask(requests, label=f"generation test of {name}", progress=False)
        answers = [(answer.text, answer.finish_reason == "stop") for answer in found]
    else:
        answers = speak(model_dir, conversations, max_tokens)
    asked = [messages[-1]["content"] for messages in conversations]
    return [judged(question, *answer) for question, answer in zip(asked, answers, strict=True)]


def judged(question: str, answer: str, stopped: bool) -> Row:
    """Return one row of the test."""
    script = script_of(question, default="mixed")
    return {
        "question": question, "answer": answer, "stopped": stopped,
        "right_script": script in ("mixed", script_of(answer, default=script)),
        "template_intact": bool(answer.strip()) and not any(mark in answer for mark in MARKS),
    }  # fmt: skip


def generation_rows(name: str, rows: list[Row]) -> list[Row]:
    """Return one row for each of `CHECKS`: model, check, passed, n."""
    return [
        {"model": name, "check": check, "passed": sum(row[check] for row in rows), "n": len(rows)} for check in CHECKS
    ]


def speak(model_dir: Path, conversations: list[list[dict[str, str]]], max_tokens: int) -> list[tuple[str, bool]]:
    """Return (answer with any special tokens in it, whether a stop token ended it) by transformers, greedily."""
    tokenizer, model = load_tokenizer(model_dir), load_model(model_dir).eval()
    return [_answer(model, tokenizer, messages, max_tokens) for messages in conversations]


def _answer(model, tokenizer, messages: list[dict[str, str]], max_tokens: int) -> tuple[str, bool]:
    import torch

    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    prompt = prompt.to(model.device)
    with torch.inference_mode():
        whole = model.generate(**prompt, max_new_tokens=max_tokens, do_sample=False)
    ids = whole[0, prompt["input_ids"].shape[1] :].tolist()
    stops = model.generation_config.eos_token_id
    stopped = bool(ids) and ids[-1] in (stops if isinstance(stops, list) else [stops])
    return tokenizer.decode(ids[:-1] if stopped else ids), stopped
