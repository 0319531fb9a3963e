"""Quality of answers by an LLM judge, from the probabilities of its first token and not from the token it chose.

`by_odds` is the log-odds of 好 over 差, which even a base model can be asked for. `by_digits` is the expectation of a
mark from 1 to 5 over the digits' probabilities (G-Eval, arXiv 2303.16634): finer than the mark itself, which a judge
gives as 4 nearly always. Both rank rows within a class and are no absolute measure.
"""

from collections.abc import Callable, Sequence

from kyara_utils.curation.open_tags import AT_ONCE, shortened
from kyara_utils.llm import Client, expected, load_prompt, log_odds, score
from kyara_utils.runs.stored_rows import having
from kyara_utils.runs.tables import Row

LABELS = ("好", "差")
DIGITS = ("1", "2", "3", "4", "5")
SHOWN = {"completion": (600, 240), "brief": (1200, 600), "full": (12_000, 8000)}  # characters of question, of answer
Scored = tuple[Sequence[Row], list[float | None]]


def by_odds(client: Client, rows: Sequence[Row]) -> Scored:
    """Return (rows with their call, log-odds of a good answer; None without a verdict)."""
    return _scored(client, rows, "quality", LABELS, score)


def by_digits(client: Client, rows: Sequence[Row]) -> Scored:
    """Return (rows with their call, expected mark from 1 to 5; None without one)."""
    return _scored(client, rows, "digits_full" if client.model.style == "full" else "digits", DIGITS, expected)


def _scored(client: Client, rows: Sequence[Row], name: str, labels: Sequence[str], read: Callable) -> Scored:
    """Ask about `AT_ONCE` rows together; of each answer only its call and `read(answer, labels)` are held."""
    prompt, calls, scores = load_prompt(f"curation/{name}"), [], []
    for start in range(0, len(rows), AT_ONCE):
        part = rows[start : start + AT_ONCE]
        for row, response in zip(part, log_odds(client, prompt, _inputs(client, part), labels), strict=True):
            calls.append([*row["call_ids"], response.call_id])
            scores.append(read(response, labels))
    return having(rows, call_ids=calls), [None if value is None else round(value, 4) for value in scores]


def _inputs(client: Client, rows: Sequence[Row]) -> list[dict[str, str]]:
    """The last answer and what came before it; a strong judge sees lines as they are, the others one line."""
    found = []
    for row in rows:
        *before, last = row["messages"]
        asked = before[0]["content"] if len(before) == 1 else "\n".join(m["content"] or "" for m in before)
        texts = (text if client.model.style == "full" else " ".join(text.split()) for text in (asked, last["content"]))
        sizes = SHOWN[client.model.style]
        found.append(dict(zip(("question", "answer"), map(shortened, texts, sizes), strict=True)))
    return found
