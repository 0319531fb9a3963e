"""Questions whose document is known: written by hand for the bundled corpus, by a language model for any other."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from kyara_utils.llm import complete, load_prompt
from kyara_utils.runs import reject
from kyara_utils.runs.tables import Row, read_jsonl

STEP = "01_corpus_indexing"
BUNDLED = Path(__file__).parents[2] / "data" / "known_items.jsonl"
SHORTEST = 6  # characters of a question that says what it is about
LONGEST = 120
MAX_TOKENS = 60


def bundled_items(paths: Mapping[str, str]) -> list[Row]:
    """The hand-written questions as {question, doc_id}; `paths` maps document ids to paths, others are left out."""
    ids = {path: doc_id for doc_id, path in paths.items()}
    rows = read_jsonl(BUNDLED)
    return [{"question": row["question"], "doc_id": ids[row["path"]]} for row in rows if row["path"] in ids]


def written_items(client, chosen: Sequence[Row], seed: int = 0) -> tuple[list[Row], list[Row]]:
    """Let a model ask about chunks (rows with id, doc_id, text); return ({question, doc_id} rows, rejects).

    Rejected are answers that are no question of a sensible length (`no_question`) and questions that repeat
    (`repeated`): a weak model asks the same of every text.
    """
    prompt = load_prompt("knowledge/known_item")
    inputs = [{"document": chunk["text"]} for chunk in chosen]
    items: dict[str, Row] = {}
    rejects = []
    for chunk, response in zip(chosen, complete(client, prompt, inputs, max_tokens=MAX_TOKENS, seed=seed), strict=True):
        question = response.text
        row = {"id": chunk["id"], "doc_id": chunk["doc_id"], "question": question}
        if not (SHORTEST <= len(question) <= LONGEST and question.endswith(("？", "?"))) or response.error:
            rejects.append(reject(STEP, "no_question", row, response.error or "not one question"))
        elif question in items:
            rejects.append(reject(STEP, "repeated", row, items[question]["doc_id"]))
        else:
            items[question] = {"question": question, "doc_id": chunk["doc_id"]}
    return list(items.values()), rejects
