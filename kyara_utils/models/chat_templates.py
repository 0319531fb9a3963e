"""The chat format the student is trained on, and a way to see which tokens carry the loss.

One template serves training, generation and the exported GGUF, because a silent difference between them is
the commonest reason for a model that does not stop. For Gemma it is the one below, as TRL ships it, for text only: a
system turn is folded into the first user turn (Gemma has no system role), roles must alternate, and the end
of turn lies inside the supervised span, which `generation` tags mark. Models of other families keep their own template;
where it has no tags, an assistant's span is what the template adds for that turn, found by rendering prefixes.
"""

import re
from functools import lru_cache

from kyara_utils.runs.errors import KyaraError

TURN_END = "<end_of_turn>"
ROLES = ("system", "user", "assistant")

CHAT_TEMPLATE = """\
{{ bos_token }}
{%- set prefix = "" -%}
{%- set turns = messages -%}
{%- if messages[0]['role'] == 'system' -%}
    {%- set prefix = messages[0]['content'] | trim + '\\n\\n' -%}
    {%- set turns = messages[1:] -%}
{%- endif -%}
{%- for message in turns -%}
    {%- if message['role'] != ('user' if loop.index0 % 2 == 0 else 'assistant') -%}
        {{ raise_exception('after an optional system turn, user and assistant must alternate') }}
    {%- endif -%}
    {%- if message['role'] == 'assistant' -%}
        {{ '<start_of_turn>model\\n' }}
        {%- generation -%}
        {{- message['content'] | trim + '<end_of_turn>\\n' }}
        {%- endgeneration -%}
    {%- else -%}
        {{ '<start_of_turn>user\\n' + (prefix if loop.first else '') }}
        {{- message['content'] | trim + '<end_of_turn>\\n' }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<start_of_turn>model\\n' }}
{%- endif -%}
"""
TAGS = re.compile(r"\{%-?\s*generation\s*-?%\}")
INFERENCE_TEMPLATE = re.sub(r"[ ]*\{%- (end)?generation -%\}\n", "", CHAT_TEMPLATE)


def check_turns(messages: list[dict[str, str]]) -> str:
    """Return why these messages cannot be trained on, or an empty string.

    They must be system? (user assistant)+ with non-empty text, so that the last turn is supervised.
    """
    if not messages:
        return "no messages"
    unknown = {message.get("role") for message in messages} - set(ROLES)
    if unknown:
        return f"unknown role {', '.join(sorted(map(str, unknown)))}"
    contents = [message.get("content") for message in messages]
    if not all(isinstance(content, str) and content.strip() for content in contents):
        return "an empty turn"
    turns = messages[1:] if messages[0]["role"] == "system" else messages
    wanted = [("user", "assistant")[number % 2] for number in range(len(turns))]
    if [turn["role"] for turn in turns] != wanted:
        return "user and assistant do not alternate"
    return "" if turns and len(turns) % 2 == 0 else "the last turn is not the assistant's"


class TemplateError(KyaraError):
    """A conversation that this chat template does not render turn by turn."""


def token_ids(tokenizer, messages: list[dict[str, str]], add_generation_prompt: bool = False) -> list[int]:
    """Return the ids of a conversation by the tokenizer's chat template."""
    found = tokenizer.apply_chat_template(messages, add_generation_prompt=add_generation_prompt, return_dict=True)
    return list(found["input_ids"])


def begun_text(tokenizer, messages: list[dict[str, str]], begun: str) -> str:
    """Return the text of a conversation whose next answer has begun with `begun`, for a model to go on with."""
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False) + begun


def encode(tokenizer, messages: list[dict[str, str]]) -> tuple[list[int], list[int]]:
    """Return (token ids, mask); the mask is 1 where the loss counts.

    Raises `KyaraError` for bad turns, and `TemplateError` where a template without `generation` tags renders a turn
    otherwise once another follows (some drop earlier reasoning), so that no span of it is certain.
    """
    problem = check_turns(messages)
    if problem:
        raise KyaraError(f"this conversation cannot be rendered: {problem}; fix or drop the row")
    if not TAGS.search(tokenizer.chat_template or ""):
        return _encode_by_prefixes(tokenizer, messages)
    found = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    return found["input_ids"], found["assistant_masks"]


def _encode_by_prefixes(tokenizer, messages: list[dict[str, str]]) -> tuple[list[int], list[int]]:
    ids = token_ids(tokenizer, messages)
    mask = [0] * len(ids)
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = token_ids(tokenizer, messages[:number], add_generation_prompt=True)
        after = token_ids(tokenizer, messages[: number + 1]) if number + 1 < len(messages) else ids
        if ids[: len(before)] != before or ids[: len(after)] != after:
            raise TemplateError(
                f"the chat template renders turn {number + 1} otherwise within the whole conversation; "
                "mark the assistant's text by generation tags in chat_template.jinja"
            )
        mask[len(before) : len(after)] = [1] * (len(after) - len(before))
    return ids, mask


def turn_end(tokenizer) -> int | None:
    """Return the special token with which the chat template ends an assistant's turn, at which generation stops.

    None where it ends a turn by ordinary text.
    """
    return _turn_end(tokenizer, tokenizer.chat_template)


@lru_cache(maxsize=16)
def _turn_end(tokenizer, template: str) -> int | None:
    ids, mask = encode(tokenizer, [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return next((number for number, on in zip(ids[::-1], mask[::-1], strict=True) if on and number in special), None)


def render_row(tokenizer, messages: list[dict[str, str]]) -> str:
    """Return the row as the model sees it, decoded from its ids, with each supervised span in ⟦ ⟧."""
    ids, mask = encode(tokenizer, messages)
    edges = [0, *(at for at in range(1, len(ids)) if mask[at] != mask[at - 1]), len(ids)]
    spans = []
    for start, end in zip(edges, edges[1:], strict=False):
        text = tokenizer.decode(ids[start:end])
        spans.append(f"⟦{text}⟧" if mask[start] else text)
    return "".join(spans)


def supervised_share(rows: list[dict]) -> float:
    """Return supervised tokens ÷ all tokens of rows that `prepare_conversations` kept; 0.0 without rows."""
    total = sum(row["tokens"] for row in rows)
    return sum(row["supervised_tokens"] for row in rows) / total if total else 0.0
