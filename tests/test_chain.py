"""The whole chain on the real embedded models with small numbers: run, killed, resumed, run again, and skipped."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kyara_utils.llm.plan import planned_calls
from kyara_utils.llm.replay import import_calls
from kyara_utils.llm.shipping import ship
from kyara_utils.report.collect import FIGURES
from kyara_utils.runs import read_rows
from kyara_utils.runs.steps import load_steps

ROOT = Path(__file__).resolve().parents[1]
SMALL = {
    "01.max_documents": 14,
    "02.model": "gemma-3-270m",  # the base model in 02 and the chat model in 03: both styles, and a test in time
    "02.questions": 4,
    "02.document_prompts": 14,
    "03.problems": 4,
    "03.samples": 2,
    "04.refined_share": 0.6,
    "06.prompts": 2,
    "06.pairs_per_prompt": 3,
    "06.spin_rows": 4,
    "06.max_tokens": 40,
    "08.miniature_items": dict.fromkeys(("multiple_choice", "maths", "instruction_following"), 2)
    | dict.fromkeys(("open_questions", "two_turn"), 1),
}

pytestmark = pytest.mark.chain


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("chain") / "runs"


def command(*extra: str) -> list[str]:
    settings = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]
    return [sys.executable, "-m", "kyara_utils", "run", "smoke", *settings, *extra]


def environment(runs: Path) -> dict[str, str]:
    return os.environ | {"KYARA_RUNS": str(runs)}


def call(runs: Path, *extra: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(*extra), cwd=ROOT, env=environment(runs), capture_output=True, text=True, timeout=2400
    )


def manifest(runs: Path, step: str) -> dict:
    return json.loads((runs / "smoke" / step / "manifest.json").read_text())


def stored_calls(runs: Path) -> int:
    path = runs / "smoke" / "calls.sqlite"
    if not path.exists():
        return 0
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        return db.execute("SELECT COUNT(*) FROM calls").fetchone()[0]


def wait_for_calls(runs: Path, process: subprocess.Popen, n: int, seconds: int = 900) -> None:
    until = time.time() + seconds
    while time.time() < until and process.poll() is None:
        try:
            if stored_calls(runs) >= n:
                return
        except sqlite3.Error:
            pass  # the table is being created
        time.sleep(0.2)
    raise AssertionError(f"no {n} calls within {seconds} s")


def test_killed_in_the_middle_of_paid_work_it_goes_on(runs):
    """After `kill -9` no stored call may be paid again, and nothing half-done may count as done."""
    process = subprocess.Popen(command("--to", "02"), cwd=ROOT, env=environment(runs), start_new_session=True)
    try:
        wait_for_calls(runs, process, 10)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    _kill_kernels(runs)
    paid = stored_calls(runs)
    assert not (runs / "smoke/02_rag_sft_synthesis/manifest.json").exists()
    finished = call(runs, "--to", "02")
    assert finished.returncode == 0, finished.stderr
    usage = manifest(runs, "02_rag_sft_synthesis")["llm"]
    assert usage["stored"] >= paid and usage["calls"] + paid <= stored_calls(runs) + 4


def _kill_kernels(runs: Path) -> None:
    # A kernel whose parent was killed notices within seconds; one that holds the step's lock would only delay the test.
    import psutil

    for process in psutil.process_iter(["cmdline", "environ"]):
        if (process.info["environ"] or {}).get("KYARA_RUNS") == str(runs) and "ipykernel_launcher" in str(
            process.info["cmdline"]
        ):
            process.kill()


def test_the_whole_chain(runs):
    """Nine notebooks by one command: every step leaves its manifest, and the books balance."""
    finished = call(runs)
    assert finished.returncode == 0, finished.stderr
    for step in load_steps(ROOT):
        counts = manifest(runs, step)["counts"]
        if "in" in counts:
            assert counts["in"] == counts["out"] + counts["rejects"], step
    sft = manifest(runs, "05_sft")["metrics"]
    assert sft["held_out_sft_base"] < sft["held_out_base"]
    assert 0 <= manifest(runs, "07_dpo")["metrics"]["reward_accuracy"] <= 1
    assert len(list((runs / "smoke/09_plots/figures").glob("*.png"))) == len(FIGURES)


def test_no_step_asks_more_than_was_planned(runs):
    """The price shown before a run is a promise: at most so many calls."""
    for name, step in load_steps(ROOT).items():
        done = manifest(runs, name)
        rows = {number: manifest(runs, number)["outputs"] for number in load_steps(ROOT) if number < name}

        def rows_of(number: str, output: str, rows=rows) -> int:
            return next(found[output]["rows"] for key, found in rows.items() if key.startswith(number))

        known = {f"{s[:2]}.{k}": v for s in rows for k, v in manifest(runs, s)["key"]["params"].items()}
        planned = planned_calls(list(step.calls), known | done["key"]["params"], rows_of)
        if any(item.calls for item in planned):
            asked = done["llm"]["calls"] + done["llm"]["stored"] - done["llm"]["reasked"]
            assert 0 < asked <= sum(item.calls for item in planned), (name, asked, planned)


def test_a_shipped_ledger_replays_a_step_without_a_model(runs, tmp_path, monkeypatch):
    """A reader without key, model or patience gets the same rows: the ledger is all that 02 needs beside 01's files."""
    shipped = tmp_path / "calls.parquet"
    monkeypatch.setenv("KYARA_RUNS", str(runs))
    assert sum(ship("smoke", runs / "smoke/calls.sqlite", shipped)["stages"].values()) > 10
    shutil.copytree(runs / "smoke/01_corpus_indexing", tmp_path / "runs/smoke/01_corpus_indexing")
    import_calls(shipped, tmp_path / "runs/smoke/calls.sqlite")
    done = subprocess.run(
        command("--only", "02"), cwd=ROOT, capture_output=True, text=True, timeout=600,
        env=environment(tmp_path / "runs") | {"KYARA_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    again, first = manifest(tmp_path / "runs", "02_rag_sft_synthesis"), manifest(runs, "02_rag_sft_synthesis")
    assert again["llm"]["calls"] == 0 and again["outputs"] == first["outputs"]
    assert not (tmp_path / "cache/models").exists(), "a model was made though nothing had to be asked"


def test_the_second_run_runs_nothing(runs):
    """A rerun that repeats work cannot be trusted with a budget."""
    begun = time.time()
    finished = call(runs)
    assert finished.returncode == 0 and finished.stdout.count("fresh, skipped") == 9
    print(f"second run: {time.time() - begun:.1f} s")


def test_the_tour_and_a_plain_papermill_call(runs):
    """Readers start notebooks by hand: the tour must work on a finished run, a step must leave the same manifest."""
    import papermill

    os.environ["KYARA_RUNS"] = str(runs)
    try:
        notebooks = runs / "plain"
        notebooks.mkdir()
        asked = (runs / "smoke/calls.sqlite").read_bytes()
        papermill.execute_notebook(
            str(ROOT / "notebooks/00_tour.ipynb"), str(notebooks / "00.ipynb"), cwd=str(ROOT), progress_bar=False
        )
        assert (runs / "smoke/calls.sqlite").read_bytes() == asked
        values = manifest(runs, "03_math_personahub")["key"]["params"]
        notebook = str(ROOT / "notebooks/03_math_personahub.ipynb")
        before = manifest(runs, "03_math_personahub")
        papermill.execute_notebook(
            notebook, str(notebooks / "03.ipynb"), values, cwd=str(ROOT / "notebooks"), progress_bar=False
        )
    finally:
        del os.environ["KYARA_RUNS"]
    after = manifest(runs, "03_math_personahub")
    assert after["key"] == before["key"] and after["outputs"] == before["outputs"]
    assert after["llm"]["calls"] == 0, "everything was stored already"


def test_rows_tell_where_they_come_from(runs):
    """A training row whose origin cannot be named cannot be trusted or withdrawn."""
    chunks = {row["id"] for row in read_rows(runs / "smoke/01_corpus_indexing/chunks.parquet")}
    with sqlite3.connect(f"file:{runs}/smoke/calls.sqlite?mode=ro", uri=True) as db:
        keys = {key for (key,) in db.execute("SELECT key FROM calls")}
    rows = read_rows(runs / "smoke/04_filtering/base.parquet")
    assert rows
    for row in rows:
        assert row["call_ids"] and set(row["call_ids"]) <= keys
        assert row["source"] == "math" or set(row["parents"]) <= chunks


@pytest.mark.parametrize("content", [None, "empty", "binary"])
def test_a_folder_without_text_is_one_line(tmp_path, content):
    """A wrong folder must be named at once, not fail hours later on an empty index."""
    corpus = tmp_path / "corpus"
    if content:
        corpus.mkdir()
        (corpus / "a.txt").write_bytes(b"" if content == "empty" else bytes(range(256)) * 8)
    settings = ["--only", "01", "--set", f"01.corpus={corpus}"]
    done = subprocess.run(
        [sys.executable, "-m", "kyara_utils", "run", "smoke", *settings],
        cwd=ROOT, env=environment(tmp_path / "runs"), capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 1
    message, *executed = done.stderr.splitlines()
    assert message.startswith("error: 01_corpus_indexing: ") and str(corpus) in message
    assert [line.endswith(".ipynb") for line in executed] == ([True] if content else []), (
        "what is absent needs no kernel"
    )
    assert not (tmp_path / "runs/smoke/01_corpus_indexing/manifest.json").exists()
