"""Quality scores by an LLM: with what selection ranks the rows of a class.

The score is the log-odds of 好 over 差, read from log-probabilities; it ranks rows within a tag and is no absolute
measure.
"""

from kyara_utils.llm import Client, load_prompt, log_odds, score
from kyara_utils.runs import answer, question
from kyara_utils.runs.tables import Row

LABELS = ("好", "差")
SHOWN = 240  # characters of an answer that the judge reads


def score_by_model(client: Client, rows: list[Row]) -> list[Row]:
    """Add `score`: log-odds of a good answer; 0.0 where the judge gave no verdict. Good for 1,000,000 rows."""
    inputs = [
        {"question": " ".join(question(row).split()), "answer": " ".join(answer(row).split())[:SHOWN]} for row in rows
    ]
    responses = log_odds(client, load_prompt("curation/quality"), inputs, LABELS)
    return [
        row | {"score": round(score(response, LABELS) or 0.0, 4), "call_ids": [*row["call_ids"], response.call_id]}
        for row, response in zip(rows, responses, strict=True)
    ]
