"""From answers and verdicts to preference rows: RLAIF (judged) and SPIN (reference against the model's own sample).

RLAIF follows the card: the same prompt to several models, a judge decides. SPIN (Chen et al. 2024, arXiv 2401.01335):
chosen = the training answer, rejected = what the SFT model says, "for the High Quality Dataset" in Kyara's words.
"""

import json
import random
from collections import defaultdict
from collections.abc import Callable
from itertools import combinations

from kyara_utils.llm import load_prompt
from kyara_utils.preference.judge import Pair, Verdict
from kyara_utils.runs import answer, content_id, question, reject
from kyara_utils.runs.tables import Row

STEP = "06_dpo_pair_judging"


def form_pairs(
    answers: list[Row], per_prompt: int = 2, seed: int = 0, may_judge: Callable[[tuple[str, str]], bool] | None = None
) -> tuple[list[tuple[Pair, Row, Row]], list[Row]]:
    """Choose `per_prompt` pairs of different models' answers to each prompt; which comes first is drawn by seed.

    may_judge: whether somebody may judge answers of these two models; other pairs are not drawn. Rejects single
    answers: call_failed, empty; pairs: same_text; and prompts: own_answer, where nobody may judge any of its pairs. One
    walk over the answers, then the pairs of each prompt alone. Holds all answers, some 1.5 kB each: good for 1,000,000.
    """
    usable, rejects = _usable(answers)
    picker, groups, pairs = random.Random(seed), defaultdict(list), []
    for row in usable:
        groups[row["prompt"]].append(row)
    for prompt in sorted(groups):
        made = list(combinations(sorted(groups[prompt], key=lambda row: row["model"]), 2))
        options = [pair for pair in made if not may_judge or may_judge((pair[0]["model"], pair[1]["model"]))]
        if made and not options:
            row = {"id": content_id(prompt, prefix="rank_", n=12), "prompt": prompt}
            rejects.append(reject(STEP, "own_answer", row))
        for one, two in picker.sample(options, min(per_prompt, len(options))):
            if picker.random() < 0.5:
                one, two = two, one
            models, texts = (one["model"], two["model"]), (one["text"], two["text"])
            pair_id = content_id(prompt, *texts, prefix="pair_", n=12)
            if texts[0] == texts[1]:
                rejects.append(reject(STEP, "same_text", {"id": pair_id, "first": one, "second": two}))
            else:
                pairs.append((Pair(pair_id, prompt, *texts, models), one, two))
    return pairs, rejects


def _usable(answers: list[Row]) -> tuple[list[Row], list[Row]]:
    usable, rejects = [], []
    for row in answers:
        if row["error"]:
            rejects.append(reject(STEP, "call_failed", row, row["error"]))
        elif not row["text"]:
            rejects.append(reject(STEP, "empty", row))
        else:
            usable.append(row)
    return usable, rejects


def rlaif_preferences(
    pairs: list[tuple[Pair, Row, Row]], verdicts: list[Verdict], judge: str, parents: dict[str, list[str]]
) -> tuple[list[Row], list[Row]]:
    """Keep the pairs whose verdict is the same in both orders; `parents` names the rows that each prompt comes from.

    Rejects: inconsistent, tie, unscored; own_answer and judge_below_bar, where nobody was asked; and chosen_truncated,
    since a preferred answer that the token limit cut would teach the model to run on.
    """
    kept, rejects = [], []
    for (pair, one, two), verdict in zip(pairs, verdicts, strict=True):
        chosen, rejected = (two, one) if verdict.outcome == "second" else (one, two)
        rule = "" if verdict.outcome in ("first", "second") else verdict.outcome
        rule = rule or ("chosen_truncated" if chosen["finish_reason"] == "length" else "")
        if rule:
            row = {"id": pair.id, "prompt": pair.prompt, "first": one, "second": two, "verdict": verdict.as_dict()}
            rejects.append(reject(STEP, rule, row))
            continue
        note = {"judge": judge, "prompt": load_prompt("preference/judge").name, **verdict.as_dict()}
        calls = [chosen["call_id"], rejected["call_id"], *verdict.call_ids]
        kept.append(
            preference(
                pair.prompt, chosen["text"], rejected["text"], "rlaif", chosen["model"], rejected["model"], note,
                parents.get(pair.prompt, []), calls, rejected["finish_reason"] == "length",
            )
        )  # fmt: skip
    return kept, rejects


def spin_preferences(rows: list[Row], samples: list[Row]) -> tuple[list[Row], list[Row]]:
    """Pair each conversation's answer (chosen) with the model's sample (rejected).

    Rejects: call_failed, empty, same_text.
    """
    kept, rejects = [], []
    for row, sample in zip(rows, samples, strict=True):
        gold = answer(row)
        rule = "call_failed" if sample["error"] else "" if sample["text"] else "empty"
        rule = rule or ("same_text" if sample["text"] == gold.strip() else "")
        if rule:
            rejects.append(reject(STEP, rule, {"id": row["id"], "sample": sample, "chosen": gold}))
            continue
        kept.append(
            preference(
                question(row), gold, sample["text"], "spin", "reference", sample["model"], {}, [row["id"]],
                [sample["call_id"]], sample["finish_reason"] == "length",
            )
        )  # fmt: skip
    return kept, rejects


def preference(
    prompt: str, chosen: str, rejected: str, source: str, chosen_model: str, rejected_model: str,
    verdicts: Row, parents: list[str], call_ids: list[str], rejected_cut: bool = False,
    wins: tuple[float | None, float | None] = (None, None),
) -> Row:  # fmt: skip
    """Return a preference row in TRL's conversational format (`runs.schemas`).

    `rejected_cut`: the token limit ended the rejected answer, so that no end of turn belongs to it: training would
    count the end against the model. `wins`: chance of chosen and of rejected to beat an answer to the same prompt,
    where somebody measured it (SPPO).
    """
    return {
        "id": content_id(prompt, chosen, rejected, prefix="pref_", n=12),
        "prompt": [{"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "source": source,
        "chosen_model": chosen_model,
        "rejected_model": rejected_model,
        "verdicts": json.dumps(verdicts, ensure_ascii=False, sort_keys=True),
        "parents": parents,
        "call_ids": call_ids,
        "rejected_cut": rejected_cut,
        "chosen_win": wins[0],
        "rejected_win": wins[1],
    }


def mix(groups: list[list[Row]]) -> tuple[list[Row], list[Row]]:
    """Concatenate sources in order; a pair that an earlier source already has is rejected as duplicate_pair."""
    seen: set[str] = set()
    kept, rejects = [], []
    for row in (row for group in groups for row in group):
        if row["id"] in seen:
            rejects.append(reject(STEP, "duplicate_pair", row))
        else:
            kept.append(row)
        seen.add(row["id"])
    return kept, rejects
