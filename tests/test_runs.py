"""Parameters, manifests and freshness: the machinery that decides whether hours of work are repeated or trusted."""

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_project import small_project, write_notebook

from kyara_utils.__main__ import EXAMPLES, main, parser
from kyara_utils.runs import (
    KyaraError,
    content_id,
    finished,
    manifest,
    params,
    recipes,
    reject,
    source,
    steps,
    trained_models,
    write_rows,
)  # fmt: skip
from kyara_utils.runs.execute import execute
from kyara_utils.runs.logs import show_messages
from kyara_utils.runs.run import start
from kyara_utils.runs.schemas import schema

ROOT = Path(__file__).resolve().parents[1]
project = pytest.fixture(small_project)


def do(step: str, **values) -> dict:
    """Do a step in this process, as its notebook would."""
    run = start(step, {"recipe": "tiny", "rate": 1.0e-4, "n": 3} | values)
    write_rows(run.path("out.parquet"), [{"id": "x", "n": values.get("n", 3)}], schema(id=str, n=int))
    return run.finish({"out": run.path("out.parquet")})


def stale(root: Path, step: str, **settings) -> str:
    chain = steps.load_steps(root)
    values = steps.resolved(root, "tiny", step, settings)
    return steps.why_stale(steps.step_dir(root, "tiny", step), steps.key_parts(root, "tiny", chain[step], values))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"rat": 1.0}, ["unknown parameter rat", "did you mean rate"]),
        ({"rate": "1e-4"}, ["rate must be float", "1.0e-4"]),
        ({"n": 2.5}, ["n must be int"]),
        ({"n": True}, ["n must be int"]),
    ],
)
def test_wrong_parameters_are_named_with_the_mend(project, given, words):
    """Papermill would inject these with at most a warning."""
    declared = params.declared(project / "notebooks/01_one.ipynb")
    with pytest.raises(KyaraError) as error:
        params.resolve(declared, given, "params/tiny/01_one.yaml")
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)


def test_an_integer_serves_as_float(project):
    """`rate: 1` in YAML is an int; refusing it would be pedantry."""
    declared = params.declared(project / "notebooks/01_one.ipynb")
    assert params.resolve(declared, {"rate": 1}, "x")["rate"] == 1.0


def test_settings_from_the_command_line():
    """On a command line 1e-5 is meant as a number; a step may be given by its number."""
    parsed = params.parse_settings(
        ["05.learning_rate=1e-5", "05_sft.packing=true", "01.corpus=a=b"], ["01_a", "05_sft"]
    )
    assert parsed == {"05_sft": {"learning_rate": 1e-5, "packing": True}, "01_a": {"corpus": "a=b"}}
    for bad in ("x", "05_sft=1", "99.a=1"):
        with pytest.raises(KyaraError):
            params.parse_settings([bad], ["05_sft"])


def test_missing_upstream_names_the_mend(project):
    """Started alone, a step must say which notebook to run first."""
    with pytest.raises(KyaraError, match="02_two needs 01_one, which is not done; run notebooks/01_one.ipynb"):
        do("02_two")


def test_fresh_until_something_that_matters_changes(project):
    """Skipping too much trusts stale results, skipping too little repeats hours: both directions are checked."""
    assert stale(project, "01_one") == "not done yet"
    do("01_one")
    assert stale(project, "01_one") == ""
    write_notebook(project, "01_one", prose="# Other prose")
    assert stale(project, "01_one") == "", "prose must not rerun a step"
    room = project / "kyara_utils/room/code.py"
    room.write_text('"""Other."""\n\n\ndef f():\n    """Words."""\n    # comment\n    return 1\n')
    assert stale(project, "01_one") == "", "docstrings and comments must not rerun a step"
    room.write_text("def f():\n    return 2\n")
    assert stale(project, "01_one") == "code: room changed"
    do("01_one")
    assert "params: n 3 → 4" in stale(project, "01_one", n=4)
    write_notebook(project, "01_one", extra="x = 1")
    assert stale(project, "01_one") == "notebook code changed"


def test_equal_output_bytes_stop_the_spread(project):
    """A rerun that changes nothing must not retrain everything behind it; one that does must."""
    do("01_one")
    do("02_two", rate=1.0e-3)
    do("01_one")
    assert stale(project, "02_two") == ""
    do("01_one", n=7)
    assert stale(project, "02_two") == "inputs: 01_one changed"


def test_damaged_or_missing_outputs_are_not_trusted(project):
    """A manifest alone proves nothing if the file behind it is gone or cut."""
    do("01_one")
    path = project / "runs/tiny/01_one/out.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:10])
    assert stale(project, "01_one") == "output out changed on disk"
    path.unlink()
    assert stale(project, "01_one") == "output out is gone"


def test_starting_again_withdraws_the_old_manifest(project):
    """A run killed half-way must not be taken for the one before it."""
    do("01_one")
    run = start("01_one", {"recipe": "tiny", "rate": 1.0e-4, "n": 3})
    assert manifest.read(run.dir) is None


def test_two_processes_never_write_one_step(project):
    """Two runs into one folder would mix their files under one manifest."""
    folder = do("01_one") and project / "runs/tiny/01_one"
    hold = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    command = [sys.executable, "-c", hold, str(folder / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(KyaraError, match="in use by another run"):
            do("01_one")
        other.communicate(b"\n")
    do("01_one")


def test_run_all_twice_in_one_kernel(project):
    """In Jupyter the second "Run all" finds the first one's variables; they are no misspelt parameters."""
    namespace = {"recipe": "tiny", "rate": 1.0e-3, "n": 3}
    start("01_one", namespace)
    namespace |= {"rows_seen": 5, "label": "x"}
    start("01_one", namespace)


def test_pipeline_runs_skips_and_reports(project, capsys):
    """The whole contract on real papermill: run, skip, stop at the error with one line and the notebook's path."""
    assert main(["run", "tiny"]) == 0
    assert "2 step(s) ran" in capsys.readouterr().out
    assert main(["run", "tiny"]) == 0
    assert capsys.readouterr().out.count("fresh, skipped") == 2
    write_notebook(project, "02_two", extra="from kyara_utils.runs import KyaraError\nraise KyaraError('no x; do y')")
    assert main(["run", "tiny"]) == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines() == ["error: 02_two: no x; do y", str(project / "runs/tiny/notebooks/02_two.ipynb")]
    assert manifest.read(project / "runs/tiny/02_two") is None


def test_a_killed_kernel_is_not_success(project, capsys):
    """Papermill saves a notebook whose cells all say `completed` when the kernel is killed: only a manifest counts."""
    write_notebook(project, "01_one", extra="import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert main(["run", "tiny", "--only", "01"]) == 1
    assert "kernel died" in capsys.readouterr().err
    assert stale(project, "01_one") == "not done yet"


def test_plain_papermill_leaves_the_same_manifest(project):
    """`papermill x.ipynb out.ipynb -f recipe.yaml` and the runner must be interchangeable."""
    import papermill

    notebook = project / "notebooks/01_one.ipynb"
    papermill.execute_notebook(
        str(notebook),
        str(project / "out.ipynb"),
        {"recipe": "tiny", "rate": 1.0e-3},
        progress_bar=False,
        cwd=str(project),
    )
    assert stale(project, "01_one", rate=1.0e-3) == "", "a given value counts, even where it is the cell's default"


def run_all(project, notebook: str) -> None:
    """What JupyterLab does: a kernel in the notebook's folder, nothing injected."""
    import nbformat
    from nbclient import NotebookClient

    content = nbformat.read(project / notebook, as_version=4)
    NotebookClient(content, resources={"metadata": {"path": str(project / "notebooks")}}).execute()


def test_run_all_in_jupyter_leaves_the_same_manifest(project):
    """With nothing injected the recipe's YAML counts, not the defaults of the cell, or two runs share one folder."""
    run_all(project, "notebooks/01_one.ipynb")
    assert stale(project, "01_one") == ""
    assert manifest.read(project / "runs/tiny/01_one")["key"]["params"]["rate"] == 1.0e-4


DEFAULTS = {"recipe": "tiny", "rate": 1.0e-3, "n": 3}


@pytest.mark.parametrize(
    ("namespace", "expected"),
    [
        (DEFAULTS, (1.0e-4, 3)),  # Run all: the YAML's rate
        (DEFAULTS | {"n": 5}, (1.0e-4, 5)),  # edited by hand
        (DEFAULTS | {"In": ["", "# Parameters\nrecipe = 'tiny'\nrate = 0.001\n"]}, (1.0e-3, 3)),  # injected: wins
        (DEFAULTS | {"In": ["", '# Parameters\nrecipe = "tiny"\n']}, (1.0e-4, 3)),  # the rest from the YAML
        (DEFAULTS | {"In": ["# Parameters\n%magic x ="]}, (1.0e-4, 3)),  # a user's cell, not papermill's
    ],
)
def test_one_truth_for_parameters(project, namespace, expected):
    """An injected value wins, then an edited one, then the YAML, then the default; the notebook sees the outcome."""
    namespace = {"In": []} | namespace
    run = start("01_one", namespace)
    assert (run.params["rate"], run.params["n"]) == expected == (namespace["rate"], namespace["n"])
    assert start("01_one", namespace).params == run.params, (
        "the start cell run again must not take the YAML for an edit"
    )


def test_values_say_where_they_come_from(project, capsys):
    """A default that the YAML overrides must not look as if it counted."""
    start("01_one", {"In": []} | DEFAULTS | {"n": 5})
    said = capsys.readouterr().out
    assert "values from params/tiny/01_one.yaml: rate 0.0001 (the cell says 0.001)" in said
    assert "edited in the parameters cell: n 5" in said


def test_papermill_without_a_recipe_writes_nowhere(project):
    """A YAML that lacks `recipe:` would leave its run in the folder of the notebook's default recipe."""
    with pytest.raises(KyaraError, match="papermill was given rate but no recipe; add the line `recipe: NAME`"):
        start("01_one", {"In": ["# Parameters\nrate = 0.5\n"]} | DEFAULTS | {"rate": 0.5})
    assert not (project / "runs").exists()
    (project / "params/tiny/02_two.yaml").write_text("recipe: smoke\n")
    with pytest.raises(KyaraError, match="says recipe: smoke, but lies in params/tiny"):
        recipes.load_recipe(project, "tiny", "02_two")


def test_a_misspelt_name_from_papermill_is_refused(project):
    """Papermill injects it as a global that nobody reads, with at most a warning."""
    with pytest.raises(KyaraError, match="unknown parameter ratee; did you mean rate"):
        start("01_one", {"In": ["# Parameters\nrecipe = 'tiny'\nratee = 2.0\n"]} | DEFAULTS | {"ratee": 2.0})


def test_what_fails_before_the_work_leaves_the_old_manifest(project):
    """A typo must not throw away the record of hours of work, and the record must not pass for this run's success."""
    do("01_one")
    for wrong in ({"rate": "fast"}, {"n": 1.5}, {"recipe": "tinny"}):
        with pytest.raises(KyaraError):
            do("01_one", **wrong)
    assert stale(project, "01_one") == ""
    write_notebook(project, "01_one", extra="", text="two")
    path = project / "notebooks/01_one.ipynb"
    path.write_text(path.read_text().replace("run = start", "raise SystemExit; run = start"))
    with pytest.raises(KyaraError):
        execute(project, "tiny", steps.load_steps(project)["01_one"], {"recipe": "tiny", "rate": 1.0e-4, "n": 3})


def test_a_checkout_that_is_not_imported_is_refused(project):
    """The key would hash the checkout while Python runs an installed copy: fresh without ever having run."""
    room = project / "kyara_utils/runs"
    shutil.copytree(ROOT / "kyara_utils/runs", room)
    (project / "kyara_utils/__init__.py").write_text("")
    source.check_imported(project, ["runs"])
    (room / "errors.py").write_text("x = 1\n")
    with pytest.raises(KyaraError, match="differs from this checkout's; run in the checkout: pip install"):
        source.check_imported(project, ["runs"])


def test_a_room_edited_under_a_running_kernel_is_refused(monkeypatch):
    """Python keeps the old code in memory, the key would hash the new one."""
    monkeypatch.setattr(source, "_first_seen", {})
    source.check_imported(ROOT, ["text"])
    monkeypatch.setattr(source, "_first_seen", dict.fromkeys(source._first_seen, "another hash"))
    with pytest.raises(KyaraError, match="was edited after this kernel had loaded it; restart the kernel"):
        source.check_imported(ROOT, ["text"])


def test_a_folder_that_is_not_there_is_named_before_the_work(project):
    """`corpus: ./dcos` would otherwise be found out by the step itself, its old manifest gone."""
    step = steps.Step("01_one", (), (), ("corpus", "base_model"))
    values = {"corpus": "bundled", "base_model": "google/gemma-2-2b-it"}
    assert steps.missing_folder(project, step, values) == ""
    assert steps.missing_folder(project, step, values | {"corpus": "hub:wikimedia/wikipedia:zh"}) == ""
    assert "corpus dcos does not exist" in steps.missing_folder(project, step, values | {"corpus": "dcos"})
    assert "base_model ./m does not exist" in steps.missing_folder(project, step, values | {"base_model": "./m"})


def test_dry_run_changes_nothing(project, capsys):
    """Looking must be free."""
    assert main(["run", "tiny", "--dry-run"]) == 0
    assert "01_one" in capsys.readouterr().out and not (project / "runs/tiny/01_one").exists()


def test_wrong_order_and_wrong_names_are_answered(project, capsys):
    """`--from 08 --to 03` did nothing, silently; accelerate's settings are no recipe; the nearest name helps."""
    (project / "params/accelerate").mkdir()
    (project / "params/accelerate/ddp.yml").write_text("x: 1")
    for arguments, words in (
        (["tiny", "--from", "02", "--to", "01"], "--from 02_two comes after --to 01_one"),
        (["accelerate"], "no recipe accelerate in params"),
        (["tiny", "--only", "2_two"], "no step 2_two; did you mean 02_two?"),
        (["tiny", "--set", "01.raet=2"], "unknown parameter raet; did you mean rate?"),
    ):
        assert main(["run", *arguments]) == 1
        assert words in capsys.readouterr().err


def test_unknown_recipe_and_step(project, capsys):
    """A typo in the command line must be answered with what there is."""
    assert main(["run", "tinny"]) == 1
    assert "did you mean tiny?" in capsys.readouterr().err
    assert main(["run", "tiny", "--only", "07"]) == 1
    assert "01_one, 02_two" in capsys.readouterr().err


def test_unwritable_runs_folder(project, monkeypatch, capsys):
    """A read-only or full disk must be one line, before any work."""
    blocked = project / "blocked"
    blocked.write_text("a file where the folder should be")
    monkeypatch.setenv("KYARA_RUNS", str(blocked))
    assert main(["run", "tiny"]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_reject_keeps_the_row_and_ids_are_content():
    """A reject without its row cannot be argued with."""
    row = reject("01", "too_short", {"id": "x", "text": "短"}, "1 character")
    assert json.loads(row["row"]) == {"id": "x", "text": "短"}
    assert content_id("a", "b") == content_id("a", "b") != content_id("ab") and len(content_id("a")) == 11


def test_pipeline_file_of_the_repository_is_sound():
    """A room misspelt under `uses` would silently never invalidate its step."""
    for step in steps.load_steps(ROOT).values():
        declared = params.declared(steps.notebook_of(ROOT, step.name))
        assert set(step.folders) <= set(declared)
        assert len(steps.key_parts(ROOT, "smoke", step, {n: "" for n in step.folders})["code"]) == len(step.uses)


def test_user_folder_is_part_of_the_key(tmp_path):
    """New documents in the user's folder must reindex it."""
    (tmp_path / "a.txt").write_text("x")
    before = manifest.folder_state(tmp_path)
    (tmp_path / "b.txt").write_text("y")
    assert manifest.folder_state(tmp_path) != before
    shutil.rmtree(tmp_path)


def test_a_full_disk_leaves_nothing_that_looks_done(tmp_path):
    """A file cut by a full disk under its final name would be read as the result by every later step."""
    code = """
import pathlib, resource, signal, sys
from kyara_utils.runs import KyaraError, manifest, write_csv, write_rows
from kyara_utils.runs.schemas import schema
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
folder = pathlib.Path(sys.argv[1])
rows = [{"id": str(n), "text": str(n * 7919)} for n in range(5000)]
for write in (lambda: write_rows(folder / "t.parquet", rows, schema(id=str, text=str)),
              lambda: write_csv(folder / "t.csv", rows),
              lambda: manifest.write_json(folder / "manifest.json", rows)):
    try:
        write()
        print("written")
    except KyaraError as error:
        print("one line" if len(str(error).splitlines()) == 1 and "free" in str(error) else repr(error))
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout.split("\n")[:3] == ["one line"] * 3, done.stdout + done.stderr
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".parquet", ".csv", ".json")]


def test_messages_are_plain_lines_once(capsys):
    """A notebook started twice must not say everything twice, and a log must read as the notebook does."""
    show_messages()
    show_messages()
    logging.getLogger("kyara_utils.some.room").info("3 of 4 rows kept")
    logging.getLogger("another.package").info("noise")
    assert capsys.readouterr().out == "3 of 4 rows kept\n"


def test_a_closed_pipe_ends_quietly(project):
    """`python -m kyara_utils status | head -1` must not end in a traceback."""
    command = [sys.executable, "-m", "kyara_utils", "status", "tiny"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_half_a_chain_can_be_looked_at(project):
    """The tour of a recipe whose training has not run ended in a KeyError."""
    with pytest.raises(KyaraError, match="recipe tiny has no finished step; run: python -m kyara_utils run tiny"):
        finished("tiny")
    do("01_one")
    found = finished("tiny")
    assert list(found) == ["01_one"] and found["01_one"]["folder"] == project / "runs/tiny/01_one"
    assert trained_models(found) == {}
    (project / "runs/tiny/05_sft/sft").mkdir(parents=True)
    assert trained_models({"05_sft": {"folder": project / "runs/tiny/05_sft"}, "07_dpo": {"folder": project}}) == {
        "sft": project / "runs/tiny/05_sft/sft"
    }


def test_status_tells_when(project, capsys):
    """A state without a date leaves open which of several runs it speaks of."""
    day = do("01_one")["finished"][:10]
    assert main(["status", "tiny"]) == 0
    first, second = capsys.readouterr().out.splitlines()[-2:]
    assert first.split()[:2] == ["01_one", day] and "fresh" in first and "not done yet" in second


def test_a_folder_on_the_command_line_is_seen_from_where_the_user_stands(project, monkeypatch):
    """`--set 01.corpus=docs` given in one's own folder looked for docs in the repository."""
    step = steps.Step("01_one", (), (), ("corpus",))
    (project / "own/docs").mkdir(parents=True)
    monkeypatch.chdir(project / "own")
    see = lambda value: steps.seen_from_here(project, step, {"corpus": value, "n": 1})["corpus"]  # noqa: E731
    assert [see(value) for value in ("docs", "bundled", "hub:a/b", "elsewhere")] == [
        "own/docs", "bundled", "hub:a/b", "elsewhere",
    ]  # fmt: skip
    assert steps.seen_from_here(project / "params", step, {"corpus": "docs"})["corpus"] == str(project / "own/docs")


def test_missing_folders_stop_a_run_before_its_first_kernel(project, capsys):
    """A corpus mistyped for step 02 was found out after the hours of step 01; a dry run names it too."""
    path = project / "params/pipeline.yaml"
    path.write_text("steps:\n  01_one: {uses: [room]}\n  02_two: {needs: [01_one], uses: [room], folders: [recipe]}\n")
    assert main(["run", "tiny"]) == 1
    captured = capsys.readouterr()
    assert "02_two: recipe tiny does not exist" in captured.err and "runs:" not in captured.out
    assert main(["run", "tiny", "--dry-run"]) == 0
    assert "missing: recipe tiny does not exist" in capsys.readouterr().out


def test_the_examples_of_the_help_are_commands():
    """An example that the grammar refuses teaches nothing."""
    lines = [line.split("  ")[1] for line in EXAMPLES.splitlines() if line.startswith("  python")]
    assert len(lines) >= 5 and {parser().parse_args(line.split()[3:]).command for line in lines} == {
        "run", "status", "compare", "report", "export", "push", "chat", "serve",
    }  # fmt: skip
    assert {line.split()[4] for line in lines} <= {*recipes.recipes(ROOT), *recipes.variants(ROOT)}
