"""Scorers of answers in words and JSON: the protocol's verdict, a lenient one, and outputs that try to break them."""

import itertools
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from kyara_utils.evaluation.golden.golden_files import read_records
from kyara_utils.evaluation.registry import benchmarks
from kyara_utils.evaluation.scored import exam, zebra, zeroeval
from kyara_utils.evaluation.scored.exam_subjects import CATEGORY_GROUP, SUBJECT_CATEGORY
from kyara_utils.evaluation.scored.rational import evaluate
from kyara_utils.evaluation.scoring import CORRECT, UNSCORED, WRONG

GROUND = Path(__file__).parents[1].parent / "shared" / "ground_truth"
C, W, U = CORRECT, WRONG, UNSCORED


def scorer(folder):
    """The registered benchmark whose published outputs lie in this folder."""
    return next(one for one in benchmarks().values() if getattr(one, "golden", "") == folder)


def in_json(answer, reasoning="Because."):
    return json.dumps({"reasoning": reasoning, "answer": answer})


def outcomes(scored):
    return scored["strict"], scored["lenient"]


# GSM8K and MATH-L5


@pytest.mark.parametrize(
    ("text", "gold", "expected"),
    [
        (in_json("18"), "# 18", (C, C)),
        (in_json("$1,234.50"), "#### 1234.5", (C, C)),
        (in_json(18.0), "# 18", (C, C)),
        (in_json("18 apples, not 20"), "# 18", (C, W)),
        (in_json("3/4"), "# 0.75", (C, W)),
        (in_json("１８"), "# 18", (C, C)),
        (in_json("-5"), "# 5", (W, W)),
        (in_json(None), "# 18", (W, U)),
        (in_json("none"), "# 18", (W, U)),
        (in_json(True), "# 1", (W, U)),
        ('{"reasoning": "a "quoted" word", "answer": "18"}', "# 18", (C, C)),
        ('{"reasoning": "cut off, "answer": 18', "# 18", (C, C)),
        ("answer: 18, surely", "# 18", (C, C)),
        ("It is 18.", "# 18", (U, C)),
        ("So \\boxed{18} after 3 steps", "# 18", (U, C)),
        ('{"answer": "1"} no: {"answer": "18"}', "# 18", (W, C)),
        ('{"note": {"answer": "2"}} "answer": "18"', "# 18", (W, C)),
        ('{"answer": NaN}', "# 18", (W, U)),
        ('{"answer": ' + "9" * 5000 + "}", "# 9", (W, W)),
        ("", "# 18", (U, U)),
        ("no idea", "# 18", (U, U)),
    ],
)
def test_numbers(text, gold, expected):
    """Each line is a form that models give; the strict column is the protocol's, right or not."""
    assert outcomes(zeroeval.score_number(text, gold)) == expected


def test_boxed_answers_count_for_the_models_the_protocol_names():
    """Giving every model the fallback would raise others' published figures; giving it none would lower Llama's."""
    text = "Adding up, the answer is $\\boxed{36}$."
    assert zeroeval.score_number(text, "36", "Meta-Llama-3.1-8B-Instruct")["strict"] == C
    assert zeroeval.score_number(text, "36", "gemma-2-2b-it")["strict"] == U
    assert zeroeval.score_number("\\boxed{36} " + "and so on " * 5, "36", "Llama-3.1-8B")["strict"] == U


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3/4", 0.75),
        ("(1+2)*4/3", 4.0),
        ("-7/2", -3.5),
        ("7//2/1", 3.0),
        ("2**3/4", 2.0),
        ("1/0", None),
        ("3/4 miles", None),
        ("a/b", None),
        ("__import__('os').getcwd()/1", None),
        ("().__class__/1", None),
        ("9**9**9**9/1", None),
        ("((9**9)**9)**9/1", None),
        ("1e308*10/1", None),
        ("(-8)**0.5/1", None),
        ("１/２", None),
        ("(" * 5000 + "1/2", None),
        ("1/" * 5000 + "1", None),
    ],
)
def test_fractions_are_worked_out_without_running_anything(text, value):
    """The reference calls eval() here, on whatever a model wrote."""
    assert evaluate(text) == value


# CRUX and MMLU-Redux


@pytest.mark.parametrize(
    ("text", "gold", "expected"),
    [
        (in_json("[(4, 1)]"), "[(4, 1)]", (C, C)),
        (in_json("[(4,1)]"), "[(4, 1)]", (W, C)),
        (in_json("'abc'"), "'abc'", (C, C)),
        (in_json("abc"), '"abc"', (C, C)),
        (in_json("a\nb"), "'a\\nb'", (C, W)),
        (in_json(""), "''", (C, C)),
        (in_json([1, 2]), "[1, 2]", (C, C)),
        (in_json("__import__('os').abort()"), "1", (W, W)),
        ("f(3) == 9", "9", (U, C)),
        ("", "9", (U, U)),
    ],
)
def test_literals_are_compared_as_text(text, gold, expected):
    """Output prediction is string equality in the protocol; no code of the model is run."""
    assert outcomes(zeroeval.score_string(text, gold)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (in_json("B"), (C, C)),
        (in_json("B) two"), (C, C)),
        (in_json("(B)"), (C, C)),
        (in_json("two"), (W, C)),
        (in_json("B."), (W, C)),
        (in_json("A"), (W, W)),
        (in_json(None), (U, U)),
        (in_json(""), (U, U)),
        (in_json("A") + " rather " + in_json("B"), (C, C)),
        (in_json("B") + " rather {this}", (C, C)),
        ("I would say B", (U, C)),
        ("", (U, U)),
    ],
)
def test_letters_come_from_the_last_object(text, expected):
    """Drafts come first: taking the first object moves Athene-70B from 73.74 to 73.95."""
    assert outcomes(zeroeval.score_letter(text, ["one", "two", "three"], "two")) == expected


@pytest.mark.parametrize(("benchmark", "lenient"), [("gsm", 53.75), ("math-l5", 5.13)])
def test_the_band_between_the_parsers_on_a_published_model(benchmark, lenient):
    """Reading the last number instead moves gemma-2-2b-it by up to two points: the parser's doing, so it is shown."""
    path = GROUND / "zeroeval" / benchmark / "gemma-2-2b-it.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    found = zeroeval.summarise([scorer(benchmark).score_published(row) for row in read_records(path)])
    assert round(found["lenient"], 2) == lenient and found["band"] == found["lenient"] - found["accuracy"] > 0


# ZebraLogic


def logic_puzzle(seed, names=("Ann", "Bo", "Cy"), pets=("cat", "dog", "owl"), teas=("oolong", "sencha", "assam")):
    """A logic grid of three houses: clues drawn until one arrangement alone satisfies all. Returns clues, solution."""
    generator = random.Random(seed)
    worlds = list(itertools.product(*(list(itertools.permutations(values)) for values in (names, pets, teas))))
    truth, clues, left = generator.choice(worlds), [], worlds
    while len(left) > 1:
        (i, one), (j, two) = ((k, generator.choice(truth[k])) for k in generator.sample(range(3), 2))
        gap = truth[j].index(two) - truth[i].index(one)
        clues.append((i, one, j, two, gap))
        left = [world for world in left if world[j].index(two) - world[i].index(one) == gap]
    rows = [[str(house), *values] for house, values in enumerate(zip(*truth, strict=True), 1)]
    return clues, {"header": ["House", "Name", "Pet", "Tea"], "rows": rows}


def solve(clues, names=("Ann", "Bo", "Cy"), pets=("cat", "dog", "owl"), teas=("oolong", "sencha", "assam")):
    """The arrangements that satisfy the clues, found without a look at the solution."""
    worlds = itertools.product(*(itertools.permutations(values) for values in (names, pets, teas)))
    return [w for w in worlds if all(w[j].index(two) - w[i].index(one) == gap for i, one, j, two, gap in clues)]


def grid_answer(world):
    houses = zip(*world, strict=True)
    table = {f"House {n}": dict(zip(("Name", "Pet", "Tea"), values, strict=True)) for n, values in enumerate(houses, 1)}
    return {"reasoning": "By elimination.", "solution": table}


@pytest.mark.parametrize("seed", range(5))
def test_a_solved_logic_grid_is_correct_and_a_swap_is_not(seed):
    """The published solutions are masked, so the scorer is tried on puzzles made and solved here."""
    clues, solution = logic_puzzle(seed)
    (world,) = solve(clues)
    answer = grid_answer(world)
    row = {"output": [json.dumps(answer)], "solution": solution, "size": "3*3"}
    scored = scorer("zebra-grid").score_published(row)
    assert (scored["strict"], scored["cells_correct"], scored["cells"]) == (C, 9, 9)
    one, two = answer["solution"]["House 1"], answer["solution"]["House 2"]
    one["Pet"], two["Pet"] = two["Pet"], one["Pet"]
    scored = scorer("zebra-grid").score_published(row | {"output": json.dumps(answer)})
    assert (scored["strict"], scored["lenient"], scored["cells_correct"]) == (W, W, 7)


def test_grids_in_other_forms():
    """The strict rule's forms and losses: its users report a third of answers lost to format."""
    _, solution = logic_puzzle(0)
    (world,) = solve(logic_puzzle(0)[0])
    table = grid_answer(world)["solution"]
    lists = {house: {name: [value.upper() + " "] for name, value in row.items()} for house, row in table.items()}
    plain = {house[-1]: row for house, row in table.items()}
    for text, expected in [
        (json.dumps({"solution": lists}), (C, C)),
        (json.dumps({"solution": plain}), (W, C)),
        (json.dumps(table), (U, C)),
        (json.dumps({"solution": table}) + ' {"done": 1}', (U, C)),
        (json.dumps({"solution": "House 1: Ann"}), (W, U)),
        (json.dumps({"solution": {"House 1": None, "House 2": {"Name": 5}}}), (W, W)),
        ('{"solution": null}', (U, U)),
        ("Ann lives in house 1.", (U, U)),
    ]:
        assert outcomes(zebra.score_grid(text, solution)) == expected, text


def test_unparsed_grids_stay_in_both_denominators():
    """Leaving them out would reward a model for failing to answer."""
    _, solution = logic_puzzle(1)
    (world,) = solve(logic_puzzle(1)[0])
    good, bad = json.dumps(grid_answer(world)), "?"
    rows = [{"output": text, "solution": solution, "size": size} for text, size in ((good, "3*3"), (bad, "5*6"))]
    found = zebra.summarise_grids([scorer("zebra-grid").score_published(row) for row in rows])
    wanted = {"accuracy": 50, "cell_accuracy": 50, "no_answer": 50, "small": 100, "xl": 0, "total": 2}
    assert {name: found[name] for name in wanted} == wanted


# TMMLU and TMMLU+


@pytest.mark.parametrize(
    ("response", "strict", "lenient"),
    [
        ("C", C, C),
        (" (C)", C, C),
        ("答案是：選項 (C)", C, C),
        ("正確的選項應該是 c。", C, C),
        ("我認為選擇C最好", C, C),
        ("因此 C 為正確", C, C),
        ("台灣是 C", C, C),
        ("選B，但答案是C", U, C),
        ("(A)不對，(B)也不對，所以選(C)", W, C),
        ("答：Ｃ", U, C),
        ("應選 C，而不是 A。", U, C),
        ("錯誤的敘述是：(C) 既然 AB 都對", U, C),
        ("All of them", W, W),
        ("不知道", U, U),
        ("", U, U),
        (None, U, U),
        ("C" + "字" * exam.LONGEST, U, U),
    ],
)
def test_exam_responses(response, strict, lenient):
    """A letter must be stated; the protocol reads a reply that begins with one, even the article of `All of them`."""
    assert outcomes(exam.score_response(response, "C")) == (strict, lenient)


def test_the_map_holds_the_groups_sizes():
    """A subject in the wrong group moves the card's TMMLU+ average unseen."""
    groups = [CATEGORY_GROUP[category] for category in SUBJECT_CATEGORY.values()]
    sizes = {"STEM": 14, "humanities": 7, "social sciences": 18, "other": 27}
    assert {group: groups.count(group) for group in sizes} == sizes and len(groups) == 66


def test_the_ways_of_averaging_differ():
    """Ten answers under four rules: quoting one as another is the commonest slip with TMMLU+."""
    marks = {
        "physics": "CC",
        "music": "CW",
        "tve_design": "W",
        "administrative_law": "CWWW",
        "geography_of_taiwan": "W",
    }
    letters = {"C": C, "W": W}
    rows = [{"subject": name, "strict": letters[mark]} for name, outcome in marks.items() for mark in outcome]
    found = exam.aggregate(rows)
    assert found["micro"] == pytest.approx(4 / 10)
    assert found["macro_average"] == pytest.approx((1 + 0.5 + 0 + 0.25 + 0) / 5)
    assert found["macro_category"] == pytest.approx((1 + 0.25 + 0.25 + 0) / 4)
    assert found[exam.CARD] == pytest.approx((1 + 0.25 + 0 + 0.25) / 4)
    assert "mean_of_groups" not in exam.aggregate([{"subject": "茶藝", "strict": C}])


def test_a_question_without_a_response_is_unscored_and_counts():
    """Dropping it would raise the score of a run that stopped half-way."""
    questions = [{"subject": "茶藝", "id": i, "answer": "A"} for i in range(4)]
    responses = [{"subject": "茶藝", "id": "0", "response": "A"}, {"subject": "糕餅", "id": "0", "response": "A"}]
    found = exam.aggregate(exam.score_exam(questions, responses))
    assert (found["macro_average"], found["no_answer"], found["total"]) == (0.25, 0.75, 4)


# Hostile outputs

HOSTILE = """
import json
from kyara_utils.evaluation.registry import benchmarks
from kyara_utils.evaluation.scored import exam
from kyara_utils.evaluation.scored.json_answer import JsonAnswer
scorers = [one for one in benchmarks().values() if isinstance(one, JsonAnswer)]
units = ["{", "}", "{}", '{"answer":', '"answer" ', '"answer":"', "answer : ", "\\\\boxed{", "1/", "(", "9", "-", "1.",
         "A ", " ", '"', '{"solution":{"House 1":{"Name":"x"}}}', "１", "\\\\", "答案", "選項 ", "A)", "正確"]
texts = [unit * (size // len(unit)) for unit in units for size in (500_000, 10_000_000)]
texts += ['{"answer": ' + "[" * 10**5 + "]" * 10**5 + "}", '{"answer": ' + "9" * 10**5 + "}", '{"answer": NaN}',
          '{"answer": 1e999}', '{"answer": "' + "1/" * 10**5 + '1"}', '{"answer": "9**9**9**9/1"}', "\\ud800",
          '{"answer": "__import__(\\'os\\')._exit(7)/1"}', '{"solution": [[]]}', '{"solution": {"House 1": [1]}}',
          "\\0"]
grid = {"header": ["House", "Name"], "rows": [["1", "Ann"]]}
found = []
for text in texts:
    row = {"output": text, "answer": "18", "choices": ["18"], "correct_answer": "18", "solution": grid}
    found += [one.score_published(row) for one in scorers]
    found += [exam.score_response(text, "A")]
print(json.dumps([[row["strict"], row["lenient"]] for row in found]))
"""


def test_hostile_outputs_are_scored_or_unscored_and_never_run():
    """Ten megabytes of brackets, towers of powers, code: a scorer that hangs or dies stops the whole evaluation."""
    done = subprocess.run([sys.executable, "-c", HOSTILE], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-500:]
    found = json.loads(done.stdout)
    assert len(found) == 57 * 6
    assert {outcome for pair in found for outcome in pair} <= {C, W, U}
