"""The golden self-check: published figures are re-derived from published files, and any damage is heard."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kyara_utils.evaluation.golden import self_check
from kyara_utils.evaluation.golden.figures import MISMATCH, NOT_RUN, OK, UNPUBLISHED, Figure, failure, not_run
from kyara_utils.evaluation.golden.golden_files import read_records
from kyara_utils.evaluation.golden.ifeval_verdicts import check as check_ifeval
from kyara_utils.evaluation.registry import benchmarks, checks
from kyara_utils.evaluation.scored import ifeval
from kyara_utils.evaluation.scored.json_answer import JsonAnswer
from kyara_utils.evaluation.scored.letter_exam import LetterExam
from kyara_utils.runs.errors import KyaraError

GROUND = Path(__file__).parents[1].parent / "shared" / "ground_truth"
KINDS = ("zeroeval/gsm", "zeroeval/math-l5", "zeroeval/crux", "zeroeval/mmlu-redux", "tmmlu", "ifeval")
COMPANIONS = ("questions", "input")
FILES = [
    str(path.relative_to(GROUND))
    for kind in KINDS
    for path in sorted((GROUND / kind).glob("*.jsonl*"))
    if not path.name.startswith(COMPANIONS) and ".loose." not in path.name  # goes with its strict file
]
CARD = {"gsm": (51.63, 0.38), "math-l5": (4.30, 16.23), "crux": (21.50, 0.00)}


def check_of(kind, folder):
    """Figures of the registered benchmarks of one kind."""
    return [figure for one in benchmarks().values() if isinstance(one, kind) for figure in one.check(folder)]


def check_zeroeval(folder):
    return [*check_of(JsonAnswer, folder), *checks()["zeroeval"](folder)]


def check_exams(folder):
    return check_of(LetterExam, folder)


def needs_ground_truth():
    if not GROUND.is_dir():
        pytest.skip(f"{GROUND} is absent: published outputs to check against")


def needs_lm_eval():
    pytest.importorskip("lm_eval", reason="lm_eval (extra eval) is not installed")
    pytest.importorskip("langdetect")


@pytest.fixture
def bundled(tmp_path):
    """A copy of the bundled fixtures, to be damaged."""
    return Path(shutil.copytree(self_check.BUNDLED, tmp_path / "golden"))


def statuses(figures):
    return {figure.name: figure.status for figure in figures}


# Published files


@pytest.mark.parametrize("name", FILES or [None])
def test_published_figures_are_re_derived(name, tmp_path):
    """A scorer that drifts from its protocol by one answer would change these columns and nobody would know."""
    needs_ground_truth()
    source, target = GROUND / name, tmp_path / name
    target.parent.mkdir(parents=True)
    for path in source.parent.iterdir():
        same = path.name.replace(".loose.", ".strict.") == source.name
        if same or path.suffix == ".csv" or path.name.startswith(COMPANIONS):
            shutil.copy(path, target.parent / path.name)
    if name.startswith("ifeval"):
        needs_lm_eval()
    figures = [figure for check in (check_zeroeval, check_exams, check_ifeval) for figure in check(tmp_path)]
    assert figures and set(statuses(figures).values()) == {OK}, self_check.table(figures)


def test_the_cards_baseline_column_comes_out(tmp_path):
    """The three figures of gemma-2-2b-it in Kyara's card, stated here so that no file can move them."""
    needs_ground_truth()
    found = {figure.name: round(figure.recomputed, 2) for figure in check_zeroeval(GROUND)}
    for benchmark, (accuracy, no_answer) in CARD.items():
        name = f"zeroeval/{benchmark} gemma-2-2b-it"
        assert (found[f"{name} accuracy"], found[f"{name} no_answer"]) == (accuracy, no_answer)


# Bundled fixtures and the command line


def test_bundled_fixtures_pass_on_the_command_line():
    """Hand-worked figures: without them the check could only be tried where published files lie about."""
    command = [sys.executable, "-m", "kyara_utils.evaluation.golden"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    for wanted in ("zeroeval/zebra-grid", "tmmluplus sample-model mean_of_groups", "figure", "tolerance", "alignbench"):
        assert wanted in text
    assert MISMATCH not in text


def test_bundled_ifeval_verdicts_pass():
    """The fixtures' verdicts include the loose rule's dropped first line and an empty response."""
    needs_lm_eval()
    assert set(statuses(check_ifeval(self_check.BUNDLED)).values()) == {OK}


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("zeroeval/gsm/sample-model.jsonl", '\\"18\\"', '\\"19\\"'),
        ("zeroeval/gsm/expected.csv", "66.67", "66.68"),
        ("zeroeval/zebra-grid/sample-model.jsonl", '"owl"', '"fox"'),
        ("tmmlu/sample-model.jsonl", "(C)", "(D)"),
        ("tmmluplus/expected.csv", "0.583333", "0.583334"),
        ("ifeval/sample-model.strict.jsonl", "[true, false]", "[true, true]"),
        ("mt_bench/single.jsonl", "[[8]]", "[[9]]"),
        ("arena_hard/bt_bootstrap.jsonl", "800.5,", "801.5,"),
        ("alignbench/published.csv", "5.42", "5.46"),
        ("judge_agreement/expected.csv", "62.5%", "63.5%"),
        ("alpaca_eval/sample-model.jsonl", "1.25", "1.26"),
    ],
)
def test_a_mutated_file_is_a_mismatch(bundled, file, before, after):
    """A self-check that passes on altered files proves nothing."""
    if file.startswith("ifeval"):
        needs_lm_eval()
    path = bundled / file
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), encoding="utf-8")
    figures = list(self_check.run(bundled))
    wrong = [figure.name for figure in figures if figure.status == MISMATCH]
    assert wrong and all(name.startswith(file.split("/")[0].removesuffix("_eval")) for name in wrong)
    assert not self_check.passed(figures)


def test_command_line_exits_1_on_mismatch_and_on_nothing(bundled, tmp_path, capsys):
    """A batch job sees only the exit code."""
    shutil.rmtree(bundled / "ifeval")
    assert self_check.main([str(bundled)]) == 0
    path = bundled / "zeroeval/crux/expected.csv"
    path.write_text(path.read_text().replace("60.00", "61.00"))
    assert self_check.main([str(bundled)]) == 1 and MISMATCH in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    assert self_check.main([str(tmp_path / "empty")]) == 1 and "nothing" in capsys.readouterr().out
    assert self_check.main([str(tmp_path / "absent")]) == 1 and "is no folder" in capsys.readouterr().err
    assert self_check.main(["--help"]) == self_check.main(["a", "b"]) == 2


def gzip_half(path):
    """Replace a file by the first half of its gzip stream."""
    whole = gzip.compress(path.read_bytes())
    path.unlink()
    path.with_name(path.name + ".gz").write_bytes(whole[: len(whole) // 2])


DAMAGE = {
    "cut gzip": gzip_half,
    "not JSON": lambda path: path.write_text('{"id": 1, "output": "x"\n'),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe\x00{"),
    "empty": lambda path: path.write_text(""),
    "fields missing": lambda path: path.write_text('{"id": 1}\n'),
    "a list": lambda path: path.write_text("[1, 2]\n"),
    "wrong types": lambda path: path.write_text(
        '{"output": 5, "answer": null, "subject": [], "id": {}, "response": 3, "prompt": 1, "judgment": 7,'
        ' "score": "x", "follow_instruction_list": 4, "label": [], "results": 1, "preference": "y", "model": 1}\n'
    ),
    "deep brackets": lambda path: path.write_text("[" * 200_000 + "\n"),
}


TOUCHED = ("zeroeval/gsm sample-model", "tmmlu sample-model")


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_a_mismatch_row_and_the_others_are_still_scored(bundled, damage):
    """One truncated download must neither stop the check nor pass unnoticed."""
    shutil.rmtree(bundled / "ifeval")
    before = {figure.name for figure in self_check.run(bundled) if figure.status == OK}
    names = ("zeroeval/gsm/sample-model", "tmmlu/sample-model")
    for name in names:
        DAMAGE[damage](bundled / f"{name}.jsonl")
    figures = list(self_check.run(bundled))
    bad = [figure for figure in figures if figure.status == MISMATCH]
    assert len(bad) >= len(names)
    assert all(figure.note or figure.difference for figure in bad)
    untouched = {name for name in before if not name.startswith(TOUCHED)}
    assert untouched and untouched <= {figure.name for figure in figures if figure.status == OK}
    assert not self_check.passed(figures)


def test_a_check_that_breaks_down_is_a_mismatch_row(bundled, monkeypatch):
    """A benchmark that cannot be checked must not look like one that passed, nor take the others with it."""

    def broken(folder):
        raise ZeroDivisionError("no row")

    known = checks()
    monkeypatch.setattr(self_check, "checks", lambda: {"broken": broken, "gsm8k": known["gsm8k"]})
    first, *others = self_check.run(bundled)
    assert (first.name, first.status) == ("broken", MISMATCH) and "no row" in first.note
    assert others and {figure.status for figure in others} == {OK}


def test_models_without_a_published_row_are_reported_and_do_not_fail(bundled):
    """Trying one's own model's file beside published ones is the normal case."""
    (bundled / "zeroeval/gsm/expected.csv").write_text("model,accuracy\nother,1.0\n")
    (bundled / "zeroeval/math-l5/expected.csv").unlink()
    wanted = ("zeroeval/gsm", "zeroeval/math")
    figures = [figure for figure in self_check.run(bundled) if figure.name.startswith(wanted)]
    assert {figure.status for figure in figures} == {UNPUBLISHED} and len(figures) == 3
    assert self_check.passed(list(self_check.run(bundled)))
    assert not self_check.passed(figures), "nothing compared is nothing checked"


def test_gzipped_and_plain_files_give_the_same_figures(bundled):
    """Published files come both ways."""
    plain = [(figure.name, figure.recomputed) for figure in check_zeroeval(bundled)]
    for path in list(bundled.glob("zeroeval/*/*.jsonl")):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert [(figure.name, figure.recomputed) for figure in check_zeroeval(bundled)] == plain


def test_an_unknown_benchmark_or_a_part_not_installed_is_said(bundled, monkeypatch):
    """Silence would look like success."""
    (bundled / "zeroeval/rebus").mkdir()
    assert statuses(check_zeroeval(bundled))["zeroeval/rebus"] == NOT_RUN

    def absent():
        raise KyaraError("IFEval needs lm-evaluation-harness (lm_eval is missing); pip install 'kyara-utils[eval]'")

    monkeypatch.setattr(ifeval, "checkers", absent)
    (figure,) = check_ifeval(bundled)
    assert figure.status == NOT_RUN and "pip install" in figure.note


def test_a_companion_file_that_is_missing_is_a_mismatch(bundled):
    """Without questions or items there is nothing to score by, which is not the same as nothing to score."""
    (bundled / "tmmlu/questions.jsonl").unlink()
    found = {figure.name: figure for figure in self_check.run(bundled)}
    assert found["tmmlu"].status == MISMATCH and "questions.jsonl" in found["tmmlu"].note


def test_figures_match_within_tolerance_only():
    """NaN compares false with everything, so `difference > tolerance` would let it pass."""
    assert Figure("a", 1.0, 1.004, 0.005).matches and not Figure("a", 1.0, 1.006, 0.005).matches
    nan = float("nan")
    assert not any(Figure("a", one, two, 9e9).matches for one, two in ((nan, 1.0), (1.0, nan), (nan, nan)))
    found = [Figure("a", nan, 1.0, 0), Figure("a", 1.0, nan, 0), failure("a", "broken"), not_run("a", "no lm_eval")]
    assert [figure.status for figure in found] == [UNPUBLISHED, MISMATCH, MISMATCH, NOT_RUN]


def test_unreadable_files_name_themselves(tmp_path):
    """The reader must know which of fifty files to fetch again, and which line is bad."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n\n{"a": \n')
    with pytest.raises(KyaraError, match=r"rows\.jsonl.*line 3"):
        read_records(path)
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"a": 1}]))
    assert read_records(path) == [{"a": 1}]


# IFEval


def item(*instructions, key=1):
    """An IFEval item of (instruction, kwargs) pairs."""
    names, kwargs = [name for name, _ in instructions], [arguments for _, arguments in instructions]
    return {"key": key, "prompt": "Do it.", "instruction_id_list": names, "kwargs": kwargs}


def test_ifeval_leaves_random_state_alone():
    """A checker that draws random letters must not decide a score, nor disturb the seed of the run around it."""
    import random

    needs_lm_eval()
    asked = item(("punctuation:no_comma", {}), ("keywords:existence", {"keywords": ["tea"]}))
    random.seed(5)
    before = random.getstate()
    strict, loose = ifeval.verdicts(asked, "Here, then:\ntea and rice")
    assert random.getstate() == before
    assert (strict, loose) == ([False, True], [True, True])
    with pytest.raises(KyaraError, match="no_such"):
        ifeval.verdicts(item(("no_such:rule", {})), "tea")


def test_ifeval_imports_without_network_and_counts_sentences():
    """Importing the checkers would download a tokenizer model; without one, 64 of 540 prompts fail upstream."""
    needs_lm_eval()
    script = (
        "import socket\n"
        "def refuse(*_): raise AssertionError('network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from kyara_utils.evaluation.scored import ifeval\n"
        "one = {'key': 1, 'prompt': '', 'instruction_id_list': ['length_constraints:number_sentences'],"
        " 'kwargs': [{'relation': 'less than', 'num_sentences': 4}]}\n"
        "print(ifeval.verdicts(one, 'Dr. Lin arrived at 9 a.m. today... The tea was ready. “Sit down!” she said.'))\n"
    )
    environment = os.environ | {"NLTK_DATA": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=60)
    assert done.stdout.strip() == "([True], [True])", done.stderr


def test_what_upstream_leaves_to_chance_is_told_from_a_mistake():
    """A word that langdetect guesses at may differ from the stored verdict; a plain sentence may not."""
    needs_lm_eval()
    rule = item(("change_case:english_lowercase", {}))
    plain = "the rain fell on the roof all night and nobody in the house slept well because of it"
    assert ifeval.undecided(rule, 0, "inscriptions") and not ifeval.undecided(rule, 0, plain)
    count = item(("length_constraints:number_sentences", {"relation": "at least", "num_sentences": 12}))
    assert ifeval.undecided(count, 0, "Rain fell. " * 11) and not ifeval.undecided(count, 0, "Rain fell. " * 10)
    assert not ifeval.undecided(item(("punctuation:no_comma", {})), 0, "a, b")
