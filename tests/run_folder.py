"""A finished run as its nine steps leave it, small or large, without running one: tables, manifests, figures, cards."""

import json
import random
from functools import cache
from itertools import cycle, islice
from pathlib import Path

import kyara_utils
from kyara_utils.report.plots_data import language_distribution
from kyara_utils.report.style import save_figure
from kyara_utils.runs import content_id, manifest, reject, write_csv, write_rows
from kyara_utils.runs.schemas import CHUNK, CONVERSATION, PREFERENCE, REJECT, extend, schema

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">{{ 7 * 7 }}"
TEXT = "烏龍茶是部分發酵的茶，產於臺灣的山區。泡茶時水溫以攝氏九十度為宜，第一泡約需一分鐘。"
CURATED = extend(CONVERSATION, tags=list[str], score=float)
MODELS = ("base", "sft", "dpo")
PARAMS = {
    "02_rag_sft_synthesis": {"model": "qwen-0.5b"},
    "05_sft": {"base_model": "gemma-3-270m"},
    "06_dpo_pair_judging": {"judges": ["gemma-3-270m"]},
}


@cache
def sentences() -> list[str]:
    """Sentences of the bundled corpus: text that compresses and is searched as real text is."""
    articles = sorted((Path(kyara_utils.__file__).parent / "data/corpus").glob("*/*.md"))
    text = "".join(path.read_text(encoding="utf-8") for path in articles)
    return [part.strip() + "。" for part in text.split("。") if 10 < len(part.strip()) < 80]


def drawn(number: int, count: int) -> str:
    """`count` sentences, others for each number."""
    picker = random.Random(number)
    return "".join(picker.choice(sentences()) for _ in range(count))


def chunk(number: int) -> dict:
    title = f"茶 {number}"
    return {
        "id": content_id(title), "doc_id": content_id(title, prefix="doc_"), "title": title, "heading": "泡法",
        "text": TEXT + drawn(-number, 4), "position": 0, "tokens": 40, "lang": "zh-Hant", "script": "Hant",
        "path": f"food/{number}.md", "topic": "food",
    }  # fmt: skip


def cited_row(number: int, source: dict, other: dict) -> dict:
    """A cited answer with its whole way in `meta`, as step 02 writes it and step 04 tags it."""
    hits = [{"id": other["id"], "title": other["title"], "score": 0.03, "relevance": 0.7, "relevant": True}]
    meta = {
        "kind": "rag_cited", "model": "qwen-0.5b", "document": source["id"], "title": source["title"], "hits": hits,
        "question": f"第 {number} 種茶葉：{drawn(number, 1)[:30]}？", "queries": ["烏龍茶 水溫"],
        "checks": ["citations_exist"],
        "digests": [{"id": other["id"], "text": "以攝氏九十度的水泡茶。"}], "context": [source["id"], other["id"]],
        "evolution": {"direction": "deepen", "question": "茶？", "tried": "水溫？", "rule": ""}, "answerable": True,
        "citations": "written by the model",
    }  # fmt: skip
    answer = f"泡茶時水溫以攝氏九十度為宜【{source['id']}】。{drawn(number, 5)}{HOSTILE if number == 0 else ''}"
    return {
        "id": content_id(str(number), prefix="conv_", n=12), "lang": "zh-Hant",
        "source": ("rag_cited", "rag")[number % 2],
        "messages": [{"role": "user", "content": f"文件：{TEXT}"}, {"role": "assistant", "content": answer}],
        "parents": [source["id"]], "call_ids": [], "meta": json.dumps(meta, ensure_ascii=False),
        "tags": [("茶", "軟體", "歷史")[number % 3]], "score": number % 100 / 10,
    }  # fmt: skip


def preference(number: int, parent: str) -> dict:
    sides = {side: [{"role": "assistant", "content": f"{side}：{TEXT}"}] for side in ("chosen", "rejected")}
    return {
        "id": content_id(str(number), prefix="pref_", n=12), **sides,
        "prompt": [{"role": "user", "content": "茶怎麼泡？"}],
        "source": "rlaif", "chosen_model": "sft", "rejected_model": "base", "parents": [parent], "call_ids": [],
        "verdicts": json.dumps({"judge": "gemma-3-270m", "forward": "A", "reverse": "A", "outcome": "first"}),
    }  # fmt: skip


def draft(number: int, source: dict) -> dict:
    return {
        "id": content_id(str(number), prefix="draft_", n=12), "kind": "rag", "chunk": source, "calls": [],
        "question": f"草稿 {number} 問什麼？", "stage": "checks", "rule": "copying", "detail": "抄了三句",
        "answer": drawn(number, 4),
    }  # fmt: skip


def finish(folder: Path, metrics: dict | None = None) -> None:
    """Write the step's manifest over all that lies in its folder."""
    names = {path.name.split(".")[0]: path for path in sorted(folder.iterdir())}
    if folder.name == "05_sft":  # which has two tables called held_out
        names = {path.name.replace(".", "_").removesuffix("_csv"): path for path in sorted(folder.iterdir())}
    content = {
        "step": folder.name, "key": {"params": PARAMS.get(folder.name, {}), "inputs": {}}, "metrics": metrics or {},
        "outputs": {name: manifest.describe(path, folder) for name, path in names.items()}, "derived": {},
        "seconds": 60.0, "finished": "2026-01-02T03:04:05+0000", "git": "abcdef", "counts": {}, "llm": {},
        "peak_memory_gb": 1.5, "hardware": {"cores": 2}, "versions": {"torch": "2.13.0"},
    }  # fmt: skip
    manifest.write_json(folder / manifest.NAME, content)


def write_data(folder: Path, rows: int, chunks: list[dict]) -> list[dict]:
    """Steps 01 to 04: half of the rows are kept, a quarter rejected in 02, a quarter in 04."""
    pairs = zip(cycle(chunks), cycle([*chunks[1:], chunks[0]]), strict=False)
    written = [cited_row(number, *pair) for number, pair in enumerate(islice(pairs, 3 * rows // 4))]
    base, out = written[: rows // 2], written[rows // 2 :]
    lost = [draft(number, chunks[number % len(chunks)]) for number in range(rows - len(written))]
    steps = [folder / name for name in ("01_corpus_indexing", "02_rag_sft_synthesis", "04_filtering")]
    write_rows(steps[0] / "chunks.parquet", chunks, CHUNK)
    plain = [{name: row[name] for name in CONVERSATION.names} for row in written]
    write_rows(steps[1] / "conversations.parquet", plain, CONVERSATION)
    write_rows(
        steps[1] / "rejects.parquet", [reject(steps[1].name, "copying", row, "抄了三句") for row in lost], REJECT
    )
    write_rows(steps[2] / "base.parquet", base, CURATED)
    write_rows(steps[2] / "refined.parquet", base[::2], CURATED)
    write_rows(steps[2] / "rejects.parquet", [reject(steps[2].name, "near_duplicate", row) for row in out], REJECT)
    counts = [
        ("written", rows, len(written)),
        ("language", len(written), len(written)),
        ("near", len(written), len(base)),
    ]
    funnel = [{"stage": s, "source": "rag", "rows_in": came, "rows_out": left} for s, came, left in counts]
    write_csv(steps[2] / "funnel.csv", funnel)
    for step in steps:
        finish(step, {"documents": len(chunks), "chunks": len(chunks)})
    return base


def write_training(folder: Path, base: list[dict]) -> None:
    """Steps 05 to 07."""
    sft, judged, dpo = (folder / name for name in ("05_sft", "06_dpo_pair_judging", "07_dpo"))
    write_rows(sft / "held_out.parquet", base[:1], CURATED)
    write_rows(sft / "rejects.parquet", [reject(sft.name, "too_long", base[1], "9,999 tokens")], REJECT)
    write_csv(
        sft / "held_out.csv",
        [{"model": m, "split": "all", "loss": loss, "n": 9} for m, loss in (("base", 3.5), ("sft", 3.1))],
    )
    pairs = [preference(number, row["id"]) for number, row in enumerate(base[: max(4, len(base) // 10)])]
    write_rows(judged / "preferences.parquet", pairs[:-1], PREFERENCE)
    write_rows(judged / "held_out.parquet", pairs[-1:], PREFERENCE)
    dpo.mkdir(parents=True)
    write_csv(dpo / "rounds.csv", [{"round": 1, "model": "dpo", "held_out": 2.83}])
    for step in (sft, judged, dpo):
        finish(step)


def write_evaluation(folder: Path) -> None:
    """Steps 08 and 09."""
    step, plots = folder / "08_eval", folder / "09_plots"
    protocol = "letter log-probability; Wilson"
    scores = [
        {"benchmark": name, "model": model, "metric": "macro", "value": 0.3125 + k / 50, "n": n, "unscored": k}
        | {"low": 0.2, "high": 0.45, "protocol": protocol}
        for name, n in (("multiple_choice", 48), ("maths", 11))
        for k, model in enumerate(MODELS)
    ]
    answers = [
        {
            "benchmark": "open",
            "model": model,
            "id": f"q{n}",
            "category": "茶",
            "prompt": f"問題 {n}？",
            "text": f"{model} 說：{HOSTILE}",
        }
        for model in MODELS
        for n in range(3)
    ]
    write_rows(step / "answers.parquet", answers, schema(**dict.fromkeys(answers[0], str)))
    write_csv(step / "scores.csv", scores)
    difference = {"benchmark": "multiple_choice", "model_a": "dpo", "model_b": "base", "n": 48, "difference": 0.04}
    write_csv(step / "differences.csv", [difference | {"low": -0.1, "high": 0.2, "p_mcnemar": 0.61803}])
    write_csv(
        step / "pairwise.csv", [{"model_a": "sft", "model_b": "base", "wins": 0, "ties": 12, "losses": 4, "n": 16}]
    )
    card = {
        "table": "General",
        "score": "TMMLU+",
        "published Kyara": "41.98",
        "ours [95 %]": "not run: no data folder is given, and nobody asked",
    }
    write_csv(step / "card.csv", [card])
    (plots / "data").mkdir(parents=True)
    (plots / "figures").mkdir()
    languages = [{"lang": "zh-Hant", "rows": 3}]
    write_csv(plots / "data/language_distribution.csv", languages)
    save_figure(language_distribution(languages), plots / "figures", "language_distribution")
    (plots / "model_card.md").write_text(
        f"---\nlicense: gemma\n---\n# kyara\n\n{HOSTILE}\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    )
    for one in (step, plots):
        finish(one)


def finished_run(folder: Path, rows: int = 12) -> Path:
    """Write a whole run of about `rows` rows of all kinds into `folder` and return it."""
    chunks = [chunk(number) for number in range(max(3, min(rows // 3, 5000)))]
    base = write_data(folder, rows, chunks)
    write_training(folder, base)
    write_evaluation(folder)
    output = {"name": "stdout", "text": ["\x1b[31m50%\r100%\x1b[0m\n"]}
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": [f"# 05 · SFT\n\nSee [07](07_dpo.ipynb) {HOSTILE}"]},
        {"cell_type": "code", "metadata": {}, "source": "print(1)", "outputs": [output]},
    ]  # fmt: skip
    (folder / "notebooks").mkdir()
    (folder / "notebooks/05_sft.ipynb").write_text(json.dumps({"cells": cells}, ensure_ascii=False))
    return folder
