"""Tags and quality scores by an LLM: what diversity and selection are measured with.

Tags follow InsTag (Lu et al. 2023, arXiv 2308.07074): intentions of the instruction, normalised afterwards. The quality
score is the log-odds of 好 over 差, read from log-probabilities; it ranks rows within a tag and is no absolute measure.
"""

from kyara_utils.curation.tags import normalise_tags, rule_tags
from kyara_utils.llm import Client, complete, load_prompt, log_odds, score
from kyara_utils.runs import answer, question
from kyara_utils.runs.tables import Row

LABELS = ("好", "差")
SHOWN = 240  # characters of an answer that the judge reads


def tag_by_model(client: Client, rows: list[Row], alpha: int = 1, seed: int = 0) -> list[Row]:
    """Add `tags`: a rule's task tag first, then the model's normalised topic tags seen at least `alpha` times.

    Holds a prompt and a response for each row, some 2 kB: good for 1,000,000 rows.
    """
    inputs = [{"question": " ".join(question(row).split())} for row in rows]
    responses = complete(client, load_prompt("curation/tags"), inputs, max_tokens=20, temperature=0.0, seed=seed)
    lists = [[tag.strip() for tag in response.text.split("、")[:3] if tag.strip()] for response in responses]
    return [
        row
        | {"tags": list(dict.fromkeys([rule_tags(row)[0], *found])), "call_ids": [*row["call_ids"], response.call_id]}
        for row, found, response in zip(rows, normalise_tags(lists, alpha), responses, strict=True)
    ]


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
