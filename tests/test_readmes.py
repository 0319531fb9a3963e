"""The README in English and in Traditional Chinese say the same: what one gains, the other must get as well."""

import re
from itertools import zip_longest
from pathlib import Path

import pytest

from kyara_utils.__main__ import parser
from kyara_utils.text.script_leaks import mainland_term, simplified_only

ROOT = Path(__file__).resolve().parents[1]
ENGLISH, CHINESE = "README.md", "README.zh-TW.md"
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


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


@pytest.mark.parametrize("name", [ENGLISH, CHINESE])
def test_links_and_pictures_are_there(name):
    """A page of dead links is what a stranger sees first."""
    for target in LINK.findall((ROOT / name).read_text(encoding="utf-8")):
        assert target.startswith("https://") or (ROOT / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("name", [ENGLISH, CHINESE])
def test_commands_of_the_package_exist(name):
    """A command that was renamed is typed, fails, and the page is closed."""
    text = (ROOT / name).read_text(encoding="utf-8")
    known = parser().format_help()
    for command in re.findall(r"python -m kyara_utils (\w+)", text):
        assert re.search(rf"\b{command}\b", known), command
    for module in re.findall(r"python -m (kyara_utils\.[\w.]+)", text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module
    targets = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"\bmake ([a-z][\w.-]*)", text):
        assert re.search(rf"^{re.escape(target)}:", targets, re.MULTILINE), target


def test_the_chinese_readme_is_written_in_taiwan():
    """The project judges other texts by this measure."""
    text = (ROOT / CHINESE).read_text(encoding="utf-8")
    assert not simplified_only(text)
    assert not mainland_term(text)
