"""From preference rows to token ids, with every row kept whole or rejected under a named rule.

A pair marked `step`, or whose prompt ends in an assistant turn, is a Step-DPO row (https://arxiv.org/abs/2406.18629):
that turn holds the steps so far and is missing before the first; chosen and rejected are one next step each, and no end
of turn follows, or the model would learn to stop after a single step (its reference, dvlab-research/Step-DPO,
stepdpo_trainer.py, leaves the end out as well).

Rows whose sides are whole conversations (HH and capybara layouts, and TRL's implicit prompt) are brought into one form
first: the prompt is everything before the last assistant turn, so no turn of the user carries loss.
"""

from typing import Any

from kyara_utils.models.chat_templates import begun_text, check_turns, token_ids, turn_end
from kyara_utils.runs.tables import Row, reject
from kyara_utils.training.losses import WINS

STEP = "07_dpo"
PAIR_IDS = ("prompt_ids", "chosen_ids", "rejected_ids")
SIDES = ("chosen", "rejected")
PAIR_RULES = ("bad_turns", "too_long", "same_answers", "no_probability")


def prepare_pairs(
    pairs: list[Row], tokenizer, max_length: int, loss: str = "sigmoid"
) -> tuple[list[Row], list[Row], dict[str, int]]:
    """Return (kept, rejects, counts); kept rows fit `max_length` tokens with either answer.

    Kept rows are in the form of `split_turns` and gain `PAIR_IDS`; rows that have them are not tokenised again.
    Counts: rows, kept, one per rule of `PAIR_RULES`, step_rows (kept rows of Step-DPO), tokens (of both answers with
    their prompts). `no_probability` is checked for `sppo_soft` alone, which needs `chosen_win` and `rejected_win`.
    Holds all pairs with their ids as lists, 37 bytes a token: good for 200,000 pairs of 1,000 tokens.
    """
    kept, rejects, counts = [], [], dict.fromkeys(("rows", "kept", *PAIR_RULES, "step_rows", "tokens"), 0)
    for pair in pairs:
        rule, detail, row = _judge(pair, tokenizer, max_length, loss)
        counts["rows"] += 1
        counts[rule or "kept"] += 1
        if rule:
            rejects.append(reject(STEP, rule, pair, detail))
            continue
        counts["step_rows"] += is_step(row)
        counts["tokens"] += sum(_sizes(row))
        kept.append(row)
    return kept, rejects, counts


def _judge(pair: Row, tokenizer, max_length: int, loss: str) -> tuple[str, str, Row]:
    """Return (rule, detail, the row as it is trained on)."""
    if loss == "sppo_soft" and not all(_is_probability(pair.get(name)) for name in WINS):
        return "no_probability", f"{' and '.join(WINS)} must be numbers from 0 to 1", {}
    if "prompt_ids" not in pair:
        pair, problem = split_turns(pair)
        for side in SIDES:
            if problem := problem or check_pair_turns(pair, side):
                return "bad_turns", f"{side}: {problem}", {}
        pair = pair | pair_ids(tokenizer, pair)
    if pair["chosen_ids"] == pair["rejected_ids"]:
        return "same_answers", "chosen and rejected are equal", {}
    if max(_sizes(pair)) > max_length:
        return "too_long", f"{max(_sizes(pair))} tokens > {max_length}", {}
    return "", "", pair


def _sizes(pair: Row) -> list[int]:
    return [len(pair["prompt_ids"]) + len(pair[f"{side}_ids"]) for side in SIDES]


def split_turns(pair: Row) -> tuple[Row, str]:
    """Return (the pair with a list of turns as prompt and one assistant turn a side, why that cannot be or "").

    Read are: strings for prompt or sides; no prompt, an empty one, or one that the sides repeat, where the sides are
    whole conversations that differ in their last turn alone; sides that go on after the prompt.
    """
    prompt = _turns(pair.get("prompt"), "user")
    chosen, rejected = (_turns(pair.get(side), "assistant") for side in SIDES)
    if len(chosen) > 1 or len(rejected) > 1:
        begun = chosen[:-1]
        if begun != rejected[:-1]:
            return pair, "the sides differ before their last turn, so no prompt is common to them"
        if not isinstance(begun[0], dict) or begun[0].get("role") == "assistant":
            begun = prompt + begun
        elif prompt and prompt not in (begun[: len(prompt)], begun[-len(prompt) :]):
            return pair, "its conversation is not that of the prompt"
        prompt, chosen, rejected = begun, chosen[-1:], rejected[-1:]
    return {**pair, "prompt": prompt, "chosen": chosen, "rejected": rejected}, ""


def _turns(value: Any, role: str) -> list[dict[str, str]]:
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    return list(value) if value is not None else []


def _is_probability(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1


def is_step(pair: Row) -> bool:
    """Say whether the sides of a pair are steps of a turn that goes on (Step-DPO)."""
    return bool(pair.get("step")) or _has_begun(pair)


def _has_begun(pair: Row) -> bool:
    return bool(pair["prompt"]) and pair["prompt"][-1].get("role") == "assistant"


def check_pair_turns(pair: Row, side: str) -> str:
    """Return why this side of a pair cannot be trained on, or an empty string."""
    if not _has_begun(pair):
        return check_turns([*pair["prompt"], *pair[side]])
    if len(pair[side]) != 1 or pair[side][0].get("role") != "assistant":
        return "a step must be one assistant turn"
    text = pair[side][0].get("content")
    return check_turns(pair["prompt"]) or ("" if isinstance(text, str) and text.strip() else "an empty turn")


def pair_ids(tokenizer, pair: Row) -> dict[str, list[int]]:
    """Return prompt_ids, chosen_ids and rejected_ids, the prompt being the longest prefix common to both.

    An answer ends as the template ends a turn, a step ends with its own last character, and so does a rejected answer
    that the token limit cut (`rejected_cut`): a turn that did not end must not teach not to end one.
    """
    prompt, whole = (_step_ids if is_step(pair) else _answer_ids)(tokenizer, pair)
    shared = min(_common(prompt, ids) for ids in whole)
    chosen, rejected = (ids[shared:] for ids in whole)
    if pair.get("rejected_cut") and not is_step(pair):
        rejected = _without_end(rejected, tokenizer)
    return {"prompt_ids": prompt[:shared], "chosen_ids": chosen, "rejected_ids": rejected}


def _answer_ids(tokenizer, pair: Row) -> tuple[list[int], list[list[int]]]:
    prompt = token_ids(tokenizer, pair["prompt"], add_generation_prompt=True)
    return prompt, [token_ids(tokenizer, [*pair["prompt"], *pair[side]]) for side in SIDES]


def _without_end(ids: list[int], tokenizer) -> list[int]:
    """Token ids up to the last end of turn, which the template put there."""
    end = turn_end(tokenizer)
    return ids[: len(ids) - 1 - ids[::-1].index(end)] if end in ids else ids


def _step_ids(tokenizer, pair: Row) -> tuple[list[int], list[list[int]]]:
    *before, begun = pair["prompt"] if _has_begun(pair) else [*pair["prompt"], {"content": ""}]
    head = begun_text(tokenizer, before, begun["content"])
    texts = [head, *(head + pair[side][0]["content"] for side in SIDES)]
    prompt, *whole = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts)
    return prompt, whole


def _common(one: list[int], other: list[int]) -> int:
    for at, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return at
    return min(len(one), len(other))
