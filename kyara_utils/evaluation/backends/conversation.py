"""Conversations of several user turns, answered turn by turn on any backend.

A base model, which knows no turns, gets the same worked examples before its first turn as in preference generation.
"""

from collections.abc import Callable, Sequence

from kyara_utils.llm import Client, Request, Response, load_prompt
from kyara_utils.runs.tables import Row

Messages = list[dict[str, str]]
REPEAT_PENALTY = 1.1  # small models otherwise repeat one sentence to the end
THINKING = "no answer behind its reasoning; raise the model's reasoning_tokens in params/models.yaml"
Reply = Callable[[list[Messages]], list[Row]]


def by_turns(asks: Sequence[Row], history: Callable[[list[str], list[str]], Messages], reply: Reply) -> list[Row]:
    """Answer asks {id, turns}: rows {id, turns (the answers), text (joined), finish_reason, error}, in order.

    `history(user turns so far, answers so far)` gives the messages, `reply` a response {text, finish_reason, error}
    to each list of messages. A turn that failed is "" in the history; its row has the text None and says why.
    """
    rows: list[Row] = [{"id": ask["id"], "turns": [], "finish_reason": "", "error": ""} for ask in asks]
    for turn in range(max((len(ask["turns"]) for ask in asks), default=0)):
        asked = [(ask["turns"], row) for ask, row in zip(asks, rows, strict=True) if turn < len(ask["turns"])]
        responses = reply([history(turns[: turn + 1], row["turns"]) for turns, row in asked])
        for (_, row), response in zip(asked, responses, strict=True):
            row["turns"].append((response["text"] or "").strip())
            row |= {"finish_reason": response["finish_reason"], "error": row["error"] or response["error"]}
    return [row | {"text": None if row["error"] else "\n".join(row["turns"])} for row in rows]


def chat(turns: list[str], answers: list[str]) -> Messages:
    """The conversation so far, as a chat template takes it."""
    messages = []
    for position, turn in enumerate(turns):
        messages.append({"role": "user", "content": turn})
        messages += [{"role": "assistant", "content": text} for text in answers[position : position + 1]]
    return messages


def few_shot(turns: list[str], answers: list[str]) -> Messages:
    """The conversation so far behind worked examples, each turn marked as a question."""
    marked = chat([turns[0], *(f"問:{turn}\n答:" for turn in turns[1:])], answers)
    return load_prompt("preference/reply").messages(prompt=turns[0]) + marked[1:]


def answered(response: Response) -> Row:
    """{text, finish_reason, error} of a response; one that ends within its reasoning is no answer, right or wrong."""
    error = response.error or (THINKING if response.reasoning and not response.text else "")
    return {"text": None if error else response.text, "finish_reason": response.finish_reason, "error": error}


def converse(client: Client, asks: Sequence[Row], max_tokens: int) -> list[Row]:
    """Greedy answers of an endpoint's model; rows as in `by_turns`."""
    completion = client.model.dialect == "completion"
    stop = load_prompt("preference/reply").stop if completion else ()

    def reply(conversations: list[Messages]) -> list[Row]:
        requests = [Request(c, max_tokens, 0.0, stop, repeat_penalty=REPEAT_PENALTY) for c in conversations]
        found = client.ask(requests, label=f"answers of {client.model.name}")
        return [answered(response) for response in found]

    return by_turns(asks, few_shot if completion else chat, reply)
