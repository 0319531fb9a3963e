"""What the stages of a synthesis share: the draft that grows from stage to stage, and the conversation row at the end.

A draft is a dict: `id, kind, chunk, question, calls, prompts`, and what each stage adds. A stage that ends one sets
`stage`, `rule` and `detail`, and the draft becomes a reject row.
"""

import json
import random
import re

from kyara_utils.llm import Client, Response, complete, load_prompt, log_odds
from kyara_utils.runs import KyaraError, content_id, reject
from kyara_utils.runs.tables import Row
from kyara_utils.synthesis.styles import style_of, task_of

STEP = "02_rag_sft_synthesis"
PATH = ("question_kind", "queries", "digests", "evolution", "followup", "unsupported")  # of a draft, kept in `meta`
SENTENCE_END = re.compile(r"(?<=[。！？!?])|(?<=\.)\s")


def sentences(text: str) -> list[str]:
    """Split text after sentence ends, Chinese or English; white space around the pieces is dropped."""
    return [piece.strip() for piece in SENTENCE_END.split(text) if piece.strip()]


def excerpt(chunk: Row, characters: int) -> Row:
    """The chunk cut to whole sentences of at most `characters` in all (one at least; 0 cuts nothing)."""
    if not characters or len(chunk["text"]) <= characters:
        return chunk
    kept = ""
    for sentence in sentences(" ".join(chunk["text"].split())):
        if kept and len(kept) + len(sentence) > characters:
            break
        kept += (" " if kept[-1:].isascii() and kept else "") + sentence
    return {**chunk, "text": kept}


def passage(chunk: Row) -> str:
    """Text of a chunk as a prompt shows it: on one line, headed by its title."""
    return f"{chunk['title']}:{' '.join(chunk['text'].split())}"


def new_draft(chunk: Row, kind: str, number: int = 0) -> Row:
    """A draft of one chunk, before any call; `number` tells the drafts of one chunk apart."""
    parts = (chunk["id"], kind, str(number)) if number else (chunk["id"], kind)
    return {
        "id": content_id(*parts, prefix="draft_", n=12), "kind": kind, "chunk": chunk, "question": "",
        "calls": [], "prompts": [], "checks": [], "stage": "", "rule": "", "detail": "",
    }  # fmt: skip


def share_of(drafts: list[Row], share: float, seed: int) -> list[Row]:
    """A seeded share of the drafts, rounded, in their order."""
    chosen = random.Random(seed).sample(range(len(drafts)), round(share * len(drafts)))
    return [drafts[position] for position in sorted(chosen)]


def examples_of(name: str, language: str) -> list[str]:
    """Texts of the worked examples of a prompt, which must not turn up in what the model writes."""
    turns = load_prompt(f"synthesis/{name}", language).turns
    return [template.render() for role, template in turns[:-1] if role != "system"]


def examples_shown(client: Client, task: str, language: str) -> list[str]:
    """The worked examples that a client's model sees for a task; none for most prompts of a chat model."""
    return examples_of(task_of(client, task).prompt, language)


def shown(client: Client, chunk: Row) -> str:
    """Text of a chunk as the prompts of the client's style show it: a base model reads one line, others the layout."""
    return passage(chunk) if style_of(client).flat else f"{chunk['title']}\n{chunk['text'].strip()}"


def write(
    client: Client, task: str, language: str, drafts: list[Row], inputs: list[Row], attempt: int = 0, seed: int = 0
) -> list[Response]:
    """Ask for a text of the kind `task` once for each draft, in the style that suits the client's model.

    inputs: one mapping per draft; a prompt takes from it what it declares. attempt: how often it was asked before,
    which decides the temperature and gives the call a seed and sample number of its own. Calls are noted in the drafts.
    """
    how = task_of(client, task)
    prompt = load_prompt(f"synthesis/{how.prompt}", language)
    taken = [{name: item[name] for name in prompt.inputs} for item in inputs]
    temperature = how.temperatures[min(attempt, len(how.temperatures) - 1)]
    responses = complete(
        client, prompt, taken, max_tokens=how.max_tokens, temperature=temperature, repeat_penalty=how.repeat_penalty,
        seed=seed + attempt, sample=attempt,
    )  # fmt: skip
    note(drafts, responses, prompt.name)
    return responses


def verdicts(
    client: Client, task: str, language: str, drafts: list[Row], inputs: list[Row], labels: tuple[str, str],
    controls: list[Row],
) -> tuple[list[Response], list[Response]]:  # fmt: skip
    """Ask for one label per draft by log-probability; return (verdicts on the drafts, verdicts on controls)."""
    prompt = load_prompt(f"synthesis/{task_of(client, task).prompt}", language)
    responses = log_odds(client, prompt, inputs + controls, labels)
    note(drafts, responses[: len(inputs)], prompt.name)
    return responses[: len(inputs)], responses[len(inputs) :]


def note(drafts: list[Row], responses: list[Response], prompt: str) -> None:
    """Record call ids and the prompt's `name@version` in the drafts."""
    for draft, response in zip(drafts, responses, strict=True):
        draft["calls"] += response.call_ids
        if prompt not in draft["prompts"]:
            draft["prompts"].append(prompt)


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


def stop_if_lost(stage: str, asked: int, left: int, fix: str) -> None:
    """Raise `KyaraError` when a stage was asked for something and nothing came through: all else would be in vain."""
    if asked and not left:
        raise KyaraError(f"{stage}: nothing is left of {asked}; {fix}")


def end(draft: Row, stage: str, rule: str, detail: str = "") -> None:
    """Note that the draft ended at `stage` by `rule`; an empty rule says that it goes on."""
    draft |= {"stage": stage, "rule": rule, "detail": detail}


def parted(drafts: list[Row]) -> tuple[list[Row], list[Row]]:
    """Drafts that go on, and reject rows of those that ended."""
    return split(drafts, lambda draft: (draft["rule"], draft["detail"]))


def conversation(
    user: str, assistant: str, source: str, parents: list[str], call_ids: list[str], meta: Row, lang: str = "zh-Hant"
) -> Row:
    """Return a conversation row of one round (`runs.schemas`); its id is the hash of its texts."""
    return rounds_row([(user, assistant)], source, parents, call_ids, meta, lang)


def rounds_row(
    rounds: list[tuple[str, str]], source: str, parents: list[str], call_ids: list[str], meta: Row, lang: str
) -> Row:
    """Return a conversation row of several rounds (user, assistant); parents are distinct, in order."""
    texts = [text for pair in rounds for text in pair]
    roles = ("user", "assistant") * len(rounds)
    return {
        "id": content_id(*texts, prefix="conv_", n=12),
        "messages": [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)],
        "lang": lang,
        "source": source,
        "parents": list(dict.fromkeys(parents)),
        "call_ids": call_ids,
        "meta": json.dumps(meta, ensure_ascii=False, sort_keys=True),
    }


def path_of(draft: Row, model: str) -> Row:
    """The `meta` every kind shares: model, document, topic, prompts, evolution, hits with verdicts, checks passed."""
    chunk = draft["chunk"]
    meta = {
        "kind": draft["kind"], "model": model, "document": chunk["id"], "title": chunk["title"],
        "topic": chunk.get("topic", ""), "prompts": draft["prompts"], "checks": draft["checks"],
    }  # fmt: skip
    keys = ("id", "title", "score", "relevance", "relevant")
    if "hits" in draft:
        meta["hits"] = [{key: hit.get(key) for key in keys} for hit in draft["hits"]]
    return meta | {
        key: draft[key]
        for key in ("question_kind", "queries", "digests", "evolution", "followup", "unsupported")
        if draft.get(key) not in (None, "")
    }
