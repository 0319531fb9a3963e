"""Pages for people: links, commands and parameters in them exist, and both READMEs say the same, line by line."""

import re
import shlex
from itertools import zip_longest
from pathlib import Path

import pytest
import yaml

from kyara_utils.__main__ import parser
from kyara_utils.llm.endpoints import Model
from kyara_utils.runs import params
from kyara_utils.runs.steps import load_steps, notebook_of, resolved
from kyara_utils.text.script_leaks import mainland_term, simplified_only

ROOT = Path(__file__).resolve().parents[1]
ENGLISH, CHINESE = "README.md", "README.zh-TW.md"
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
BLOCK = re.compile(r"```.*?```", re.S)
COMMAND = re.compile(r"python -m kyara_utils( [^`\n]*)")
PAGES = [ENGLISH, CHINESE, *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
STEPS = {step: params.declared(notebook_of(ROOT, step)) for step in load_steps(ROOT)}
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def text_of(name: str) -> str:
    """A page, each command on one line."""
    return (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")


def lines_of(name: str) -> list[str]:
    """Lines that hold something, without the one that leads to the other language."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip() and not re.fullmatch(r"\[.*\]\(README.*\.md\)", line)]


def marks(line: str) -> dict[str, list[str]]:
    """What no translation changes in a line: its heading's level, code, links and numbers; of a command its words."""
    bare = CODE.sub("", LINK.sub("", line))
    return {
        "heading": re.findall(r"^#+(?= )", line),
        "code": sorted(CODE.findall(line)),
        "links": sorted(LINK.findall(line)),
        "numbers": sorted(NUMBER.findall(bare)),
        "command": re.findall(r"^(?:make|python) .*?(?=\s+#|$)", line),
    }


def differences() -> list[str]:
    """Lines of the English README whose counterpart in Chinese is missing or says something else."""
    found = []
    for number, (english, chinese) in enumerate(zip_longest(lines_of(ENGLISH), lines_of(CHINESE), fillvalue=""), 1):
        if (one := marks(english)) != (other := marks(chinese)):
            parts = [f"{key} {one[key]} against {other[key]}" for key in one if one[key] != other[key]]
            found.append(f"line {number} (blank ones not counted): {english[:80]!r}: {'; '.join(parts)}")
    return found


def test_both_readmes_are_in_step():
    """Headings, commands, links, code and numbers, line by line; the first difference names what to add."""
    assert not (found := differences()), "\n".join(found[:3])


def test_each_readme_leads_to_the_other():
    tops = [(ROOT / name).read_text(encoding="utf-8").splitlines()[2] for name in (ENGLISH, CHINESE)]
    assert [LINK.findall(top) for top in tops] == [[CHINESE], [ENGLISH]]


@pytest.mark.parametrize("name", PAGES)
def test_links_and_pictures_are_there(name):
    """A page of dead links is what a stranger sees first."""
    for target in LINK.findall(text_of(name)):
        assert target.startswith("https://") or ((ROOT / name).parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("name", PAGES)
def test_commands_are_understood(name):
    """A command or option that was renamed is typed, fails, and the page is closed."""
    text = text_of(name)
    for command in COMMAND.findall(text):
        assert understood(command), command
    for module in re.findall(r"python -m (kyara_utils\.[\w.]+)", text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module
    targets = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"\bmake ([a-z][\w.-]*)", "\n".join(CODE.findall(text) + BLOCK.findall(text))):
        assert re.search(rf"^{re.escape(target)}:", targets, re.MULTILINE), target


def understood(command: str) -> bool:
    """Whether the command line's grammar takes a command as a page writes it: [] around what may be left out."""
    typed = re.split(r"[;。]|\s[<>|&]", re.sub(r"[][…]", "", command))[0]
    try:
        parser().parse_args(shlex.split(re.sub(r"\bN\b", "1", typed), comments=True))
    except SystemExit as end:  # 0: the page says --help
        return not end.code
    return True


@pytest.mark.parametrize("name", PAGES)
def test_parameters_are_those_of_the_notebooks(name):
    """An unknown one stops the run before it begins, with an error that the reader did not earn."""
    text = text_of(name)
    for setting in re.findall(r"--set ((?:'[^']*'|[^'`\s])+)", text):
        for step, values in params.parse_settings(shlex.split(setting), list(STEPS)).items():
            params.resolve(STEPS[step], values, f"{name}: --set {setting}")
    for block in re.findall(r"```yaml\n(.*?)```", text, re.S):
        for key, value in yaml.safe_load(block).items():
            own = isinstance(value, dict) and fields_of(key) >= set(value)
            assert own or key in known_names(block), f"{name}: {key}: {value}"


def known_names(block: str) -> set[str]:
    """What a YAML block may set: a variant's words, and parameters of the step in its first line, or any."""
    steps = [step for step in STEPS if step in block.partition("\n")[0]] or STEPS
    return {"like", "steps"}.union(*(STEPS[step] for step in steps))


def fields_of(key: int | str) -> set[str]:
    """Parameters of a step named by its number (YAML reads 05 as 5), else the fields of a model's entry."""
    step = [step for step in STEPS if step[:2] == str(key).zfill(2)]
    return set(STEPS[step[0]]) if step else set(Model.__annotations__)


def test_the_table_of_recipes_says_what_they_say():
    rows = [re.findall(r"[^|]+(?=\|)", line) for line in text_of("docs/full-scale.md").splitlines()]
    head, *rows = [
        [cell.strip(" `") for cell in row] for row in rows if row and re.search(r"`\d\d\.|parameter", row[0])
    ]
    for name, *cells in rows:
        (step,), key = [step for step in STEPS if step[:2] == name[:2]], name[3:]
        said = [yaml.safe_load(cell) for cell in cells]
        assert said == [resolved(ROOT, recipe, step, {})[key] for recipe in head[1:]], name
    assert len(rows) > 10


def test_the_chinese_readme_is_written_in_taiwan():
    """The project judges other texts by this measure."""
    text = text_of(CHINESE)
    assert not simplified_only(text)
    assert not mainland_term(text)
