"""A prompt for a good document: the model writes the request, the document itself is the answer.

The card: "ask LLM to generate an user prompt for high quality documents, and pair the (generated prompt, original
document) as a SFT example". Rich in knowledge, weak in following instructions, says the card too.
"""

from kyara_utils.llm import Client, complete, load_prompt
from kyara_utils.synthesis.drafts import Row, conversation, passage, problem_of, split

REQUEST_WORDS = ("請", "說明", "介紹", "解釋", "描述", "告訴", "什麼", "如何", "怎麼", "為什麼", "哪")


def document_conversations(client: Client, chunks: list[Row], model: str, seed: int = 0) -> tuple[list[Row], list[Row]]:
    """Return conversations of source `document`; rejects: call_failed, empty, truncated, not_a_request."""
    prompt = load_prompt("synthesis/document_prompt")
    inputs = [{"document": passage(chunk)} for chunk in chunks]
    responses = complete(client, prompt, inputs, max_tokens=48, temperature=0.3, repeat_penalty=1.1, seed=seed)
    drafts = [
        {
            "id": chunk["id"],
            "chunk": chunk,
            "request": response.text,
            "calls": [response.call_id],
            "rule": _rule(response),
        }
        for chunk, response in zip(chunks, responses, strict=True)
    ]
    kept, rejects = split(drafts, lambda draft: (draft["rule"], draft["request"]))
    return [_conversation(draft, model, prompt.name) for draft in kept], rejects


def _rule(response) -> str:
    rule = problem_of(response)
    if rule:
        return rule
    asks = any(word in response.text for word in REQUEST_WORDS)
    return "" if asks and 5 <= len(response.text) <= 60 else "not_a_request"


def _conversation(draft: Row, model: str, prompt: str) -> Row:
    chunk = draft["chunk"]
    meta = {"model": model, "title": chunk["title"], "topic": chunk.get("topic", ""), "prompts": [prompt]}
    return conversation(draft["request"], chunk["text"].strip(), "document", [chunk["id"]], draft["calls"], meta)
