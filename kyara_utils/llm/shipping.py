"""A ledger cut to what a recipe can ship: the calls that its data steps took when they last ran, what later steps asked
the same models, and of all bodies only what a replay reads.

Beside the file goes a README with the models, their files' hashes and licences, and the prompts; the same facts are in
the Parquet's metadata under `kyara`.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from kyara_utils.llm.ask import labels_of
from kyara_utils.llm.endpoints import load_models
from kyara_utils.llm.ledger import Call, Ledger, Span
from kyara_utils.llm.replay import ROWS, call_schema, existing_ledger
from kyara_utils.models.packages import MODEL_FILES
from kyara_utils.runs import manifest, steps
from kyara_utils.runs.env import find_root
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.files import replacing

LAST = "04_filtering"  # later steps also ask models that the run itself trains, which every run does anew
MESSAGE = ("content", "reasoning_content", "reasoning", "refusal")
USAGE = ("prompt_tokens", "completion_tokens")
LEVEL, PAGE = 19, 1 << 26  # zstd's level; bytes of a page, so that requests with the same examples share one
log = logging.getLogger(__name__)


def ship(recipe: str, ledger: Path, target: Path) -> dict[str, Any]:
    """Write what the recipe's steps up to 04 took when they last ran, what the later ones that are done asked the same
    models (a teacher in 08), and a README.

    Returns the facts {recipe, models, stages}; `import_calls` reads the file. A call that failed for good cannot be
    shipped; a replay asks it, and a warning says so.
    """
    source = existing_ledger(ledger)
    try:
        early, late = _last_runs(recipe)
        if lost := source.lost(early):
            log.warning("%d calls have failed, and a replay would ask them; rerun the steps until none fails", lost)
        facts = _write(_needed(source, early, late), recipe, Path(target))
    finally:
        source.close()
    with replacing(Path(target).with_name("README.md")) as temporary:
        temporary.write_text(_readme(facts, Path(target)), encoding="utf-8")
    return facts


def _last_runs(recipe: str) -> tuple[list[Span], list[Span]]:
    """When the steps up to 04, which must be done, and those after them last began and ended."""
    root, early, late = find_root(), [], []
    for name in steps.load_steps(root):
        done = manifest.read(steps.step_dir(root, recipe, name))
        if done is None and name <= LAST:
            raise KyaraError(f"{name} is not done; run: python -m kyara_utils run {recipe} --to {LAST[:2]}")
        if done:
            ended = datetime.fromisoformat(done["finished"]).timestamp()
            span = (ended - done["seconds"] - 1, ended + 1)  # the manifest names whole seconds
            (early if name <= LAST else late).append(span)
    return early, late


def _needed(source: Ledger, early: list[Span], late: list[Span]) -> Iterator[tuple[Call, str]]:
    teachers = set()
    for call, stage in source.used(early):
        teachers.add(call.model)
        yield call, stage
    yield from ((call, stage) for call, stage in source.used(late) if call.model in teachers)


def _write(used: Iterator[tuple[Call, str]], recipe: str, target: Path) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    models, stages = Counter(), Counter()
    options = {"compression": "zstd", "compression_level": LEVEL, "data_page_size": PAGE, "use_dictionary": ["model"]}
    with replacing(target) as temporary, pq.ParquetWriter(temporary, call_schema(), **options) as writer:
        while rows := list(islice(used, ROWS)):
            models.update(call.model for call, _ in rows)
            stages.update(stage for _, stage in rows)
            cut = [cut_call(call, labels_of(stage))._asdict() for call, stage in rows]
            writer.write_table(pa.Table.from_pylist(cut, schema=call_schema()))
        facts = {"recipe": recipe, "models": [_model(*item) for item in sorted(models.items())]}
        facts["stages"] = dict(sorted(stages.items()))
        if not models:
            raise KyaraError(f"the ledger notes no call of {recipe}'s last run; run it again up to step {LAST[:2]}")
        writer.add_key_value_metadata({"kyara": json.dumps(facts, ensure_ascii=False)})
    return facts


def _model(name: str, calls: int) -> dict[str, Any]:
    known = load_models().get(name)
    row = MODEL_FILES.get(known.package) if known else None
    origin = {"file": row.file, "sha256": row.sha256, "source": row.hub, "licence": row.licence} if row else {}
    return {"model": name, "calls": calls} | origin


def cut_call(call: Call, labels: tuple[str, ...] = ()) -> Call:
    """Return a call whose response holds what `read_response` reads and no more; other bodies stay whole.

    labels: of tables of log-probabilities only the rows of these words are kept, and the lowest row, below which
    `score` puts a word that is not listed; () keeps the tables.
    """
    body = orjson.loads(call.response)
    if isinstance(body, dict) and "choices" in body:
        choices = [_cut_choice(choice, labels) for choice in body["choices"]]
        usage = body.get("usage") or {}
        body = {"choices": choices, "usage": {name: usage[name] for name in USAGE if name in usage}}
    return call._replace(
        response=orjson.dumps(body).decode(), seconds=round(call.seconds, 2), created=float(round(call.created))
    )


def _cut_choice(choice: dict[str, Any], labels: tuple[str, ...]) -> dict[str, Any]:
    found = {name: choice[name] for name in ("text", "finish_reason", "error") if choice.get(name) is not None}
    if message := choice.get("message"):
        found["message"] = {name: message[name] for name in MESSAGE if message.get(name) is not None}
    if tables := choice.get("logprobs"):
        found["logprobs"] = _cut_tables(tables, labels)
    return found


def _cut_tables(tables: dict[str, Any], labels: tuple[str, ...]) -> dict[str, Any]:
    """Both layouts of `reading`: a list of alternatives per token, or a mapping."""
    if "content" in tables:
        lists = [token.get("top_logprobs") or () for token in tables["content"] or ()]
        pairs = [_kept({top["token"]: top["logprob"] for top in tops}, labels) for tops in lists]
        return {"content": [{"top_logprobs": [{"token": t, "logprob": v} for t, v in one.items()]} for one in pairs]}
    return {"top_logprobs": [_kept(dict(tops or {}), labels) for tops in tables.get("top_logprobs") or ()]}


def _kept(table: dict[str, float], labels: tuple[str, ...]) -> dict[str, float]:
    lowest = min(table, key=table.__getitem__, default="")
    return {token: value for token, value in table.items() if not labels or token.strip() in labels or token == lowest}


def _readme(facts: dict[str, Any], target: Path) -> str:
    command = f"python -m kyara_utils run {facts['recipe']}"
    lines = [
        f"# Calls of the recipe `{facts['recipe']}`", "",
        f"`{target.name}` holds what models answered in steps 01 to {LAST[:2]}, what later steps asked the same models "
        "(a teacher as a ceiling), and which chunks the index found. "
        f"`{command}` makes the same rows of it without asking; with `--live` it asks. The columns are those of "
        "`Call` in `kyara_utils/llm/ledger.py`; of a response only what a replay reads is kept.", "",
        "| model | calls | file | SHA-256 | licence |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for row in facts["models"]:
        cells = (row.get(name, "–") for name in ("source", "sha256", "licence"))
        lines.append(f"| {row['model']} | {row['calls']:,} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "The embedded base model answers with its vocabulary cut to the run's texts, a file built from the named one.",
    ]
    lines += ["", "Requests quote the corpus (the bundled one is CC BY 4.0); a model's terms cover its answers.", ""]
    lines += ["| prompt@version and labels | calls |", "|---|---|"]
    return "\n".join(lines + [f"| {stage} | {calls:,} |" for stage, calls in facts["stages"].items()]) + "\n"
