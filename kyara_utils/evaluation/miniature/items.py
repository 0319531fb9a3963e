"""The bundled miniature benchmarks: read, limited per subject, and as plain text for decontamination and
vocabulary."""

from pathlib import Path
from typing import Any

from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import read_jsonl

FOLDER = Path(__file__).resolve().parents[2] / "data" / "benchmarks"
TEXT_FIELDS = ("question", "prompt", "turns", "A", "B", "C", "D", "solution", "reference")


def benchmark_names() -> list[str]:
    """Names of the bundled benchmarks, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.jsonl"))


def load_items(name: str, limit_per_subject: int = 0) -> list[dict[str, Any]]:
    """Return the items of one benchmark in file order; fields as in the README beside the data.

    `limit_per_subject` keeps the first items of each `subject` (of each `category` where there is no subject,
    of the file where there is neither); 0 keeps all. Raises KyaraError for an unknown name.
    """
    if name not in benchmark_names():
        raise KyaraError(f"no benchmark {name}; known: {', '.join(benchmark_names())}")
    items, seen = [], {}
    for item in read_jsonl(FOLDER / f"{name}.jsonl"):
        subject = item.get("subject", item.get("category", ""))
        seen[subject] = seen.get(subject, 0) + 1
        if not limit_per_subject or seen[subject] <= limit_per_subject:
            items.append(item)
    return items


def benchmark_texts() -> dict[str, str]:
    """Return {item id: question, options and reference, one per line} over all bundled benchmarks."""
    return {item["id"]: item_text(item) for name in benchmark_names() for item in load_items(name)}


def item_text(item: dict[str, Any]) -> str:
    """An item's question, options and reference, one per line."""
    parts = []
    for field in TEXT_FIELDS:
        value = item.get(field, "")
        parts.extend(value if isinstance(value, list) else [value])
    return "\n".join(part for part in parts if part)
