"""Open tags by an LLM: what each query of a conversation wants, in the model's own words (InsTag, arXiv 2308.07074).

Every query is asked about by itself. A base model continues a list of worked examples; a chat model answers in JSON,
with a reason for each tag, which makes it name what is there. `tag_merging` makes one vocabulary of the answers.
"""

import json
from collections.abc import Sequence

from kyara_utils.curation.tag_merging import Embed, merge_tags
from kyara_utils.curation.tags import rule_tags
from kyara_utils.llm import Client, Response, complete, load_prompt
from kyara_utils.runs.stored_rows import having
from kyara_utils.runs.tables import Row, turns

AT_ONCE = 16_384  # rows that are asked about together; of more only what was found is held
SHOWN = 2400  # characters of a query that the model reads
PROMPTS = {"completion": ("tags", 20), "brief": ("tags_open", 240), "full": ("tags_open", 700)}  # file, most tokens
IN_A_LINE = 3  # tags that are taken of a base model's line; later ones repeat


def tag_by_model(
    client: Client, rows: Sequence[Row], embed: Embed, alpha: int = 1, similarity: float = 1.0, seed: int = 0
) -> tuple[Sequence[Row], list[Row]]:
    """Return (rows with `tags`: the rule's task first, then the model's merged ones; account of `merge_tags`).

    A query without a readable answer brings no tag. Holds the tags of all rows, and the answers of `AT_ONCE` of them.
    """
    named, calls, tasks = [], [], []
    for start in range(0, len(rows), AT_ONCE):
        part = rows[start : start + AT_ONCE]
        answers = iter(_asked(client, [shortened(text) for row in part for text in turns(row, "user")], seed))
        for row in part:
            own = [next(answers) for _ in turns(row, "user")]
            named.append(list(dict.fromkeys(tag for answer in own for tag in read_tags(answer.text))))
            calls.append([*row["call_ids"], *(answer.call_id for answer in own)])
            tasks.append(rule_tags(row)[0])
    merged, account = merge_tags(named, embed, alpha, similarity)
    tags = [list(dict.fromkeys([task, *own])) for task, own in zip(tasks, merged, strict=True)]
    return having(rows, tags=tags, call_ids=calls), account


def _asked(client: Client, queries: list[str], seed: int) -> list[Response]:
    name, longest = PROMPTS[client.model.style]
    prompt = load_prompt(f"curation/{name}")
    key = prompt.inputs[0]
    inputs = [{key: query if prompt.schema else " ".join(query.split())} for query in queries]
    return complete(client, prompt, inputs, max_tokens=longest, temperature=0.0, seed=seed)


def shortened(text: str, most: int = SHOWN) -> str:
    """A text of any length for one call, by its two ends: what is asked stands before or behind the documents."""
    return text if len(text) <= most else f"{text[: most // 2]}\n…\n{text[-most // 2 :]}"


def read_tags(text: str) -> list[str]:
    """The tags of an answer: JSON as its schema says, else a line with 、 between them; of other JSON none."""
    try:
        found = json.loads(text)
    except ValueError:
        return [] if text.lstrip()[:1] in "[{" else _stripped(text.split("、")[:IN_A_LINE])
    tags = found.get("tags") if isinstance(found, dict) else None
    named = [entry.get("tag") for entry in tags if isinstance(entry, dict)] if isinstance(tags, list) else []
    return _stripped(tag for tag in named if isinstance(tag, str))


def _stripped(tags) -> list[str]:
    return [tag.strip() for tag in tags if tag.strip()]
