"""What the stages of a synthesis share: sampling, usable calls, and the conversation row at the end."""

import json
import re
from typing import Any

from kyara_utils.llm import Response
from kyara_utils.runs import content_id, reject

Row = dict[str, Any]
STEP = "02_rag_sft_synthesis"


def passage(chunk: Row) -> str:
    """Text of a chunk as a prompt shows it: on one line, headed by its title."""
    return f"{chunk['title']}:{' '.join(chunk['text'].split())}"


def problem_of(response: Response) -> str:
    """Name of the rule by which an answer is unusable as it stands, or ""."""
    if response.error:
        return "call_failed"
    if not response.text:
        return "empty"
    return "truncated" if response.truncated else ""


def split(drafts: list[Row], rule_of, step: str = STEP) -> tuple[list[Row], list[Row]]:
    """Part drafts by `rule_of(draft) -> (rule, detail)`: those with no rule, and reject rows for the others."""
    kept, rejects = [], []
    for draft in drafts:
        rule, detail = rule_of(draft)
        if rule:
            rejects.append(reject(step, rule, draft, detail))
        else:
            kept.append(draft)
    return kept, rejects


def is_question(text: str) -> bool:
    """A question in Chinese that stands by itself: 6–60 characters, ends with a question mark, asks one thing."""
    return 6 <= len(text) <= 60 and text.endswith(("？", "?")) and bool(re.search(r"[\u4e00-\u9fff]", text[:-1]))


def conversation(user: str, assistant: str, source: str, parents: list[str], call_ids: list[str], meta: Row) -> Row:
    """Return a conversation row of one round (DESIGN §3); its id is the hash of what was said."""
    return {
        "id": content_id(user, assistant, prefix="conv_", n=12),
        "messages": [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}],
        "lang": "zh-Hant",
        "source": source,
        "parents": parents,
        "call_ids": call_ids,
        "meta": json.dumps(meta, ensure_ascii=False, sort_keys=True),
    }
