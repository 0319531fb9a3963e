"""Test a judge on pairs with human labels before it is believed.

    python -m kyara_utils.preference.validate --judge gpt-4o --pairs pairs.jsonl.gz --n 200 --repeats 1

Every call is in a ledger (runs/judges/calls.sqlite unless --store names another), so a second start costs nothing.
"""

import argparse
import sys
from pathlib import Path

from kyara_utils.llm.endpoints import find_model
from kyara_utils.preference.judge_test import report_lines, try_judge
from kyara_utils.preference.judges import MODES, open_panel
from kyara_utils.preference.labelled_pairs import read_labelled
from kyara_utils.runs.env import find_root, runs_dir
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row, write_csv


def main(arguments: list[str] | None = None) -> int:
    """Test each judge, print its report; 0 when all of them passed, 2 when one is refused."""
    given = _arguments(arguments)
    rows = [validate(name, given) for name in given.judge]
    if given.csv:
        write_csv(given.csv, rows)
    return 0 if all(row["trusted"] for row in rows) else 2


def validate(judge: str, given: argparse.Namespace) -> Row:
    """Test one judge and print what was found; return its row of `judge_test.try_judge`."""
    tests, rejects = read_labelled(given.pairs, given.n, given.seed)
    strong = "/" in judge or find_model(judge).style == "full"
    mode = given.mode or ("text" if strong else "logprob")
    store = given.store or runs_dir(find_root()) / "judges" / "calls.sqlite"
    with open_panel([judge], store, None, given.budget, mode, given.tie_margin, own_answers=True) as panel:
        row, _ = try_judge(panel.members[0], tests, given.bar, given.repeats)
        usage = panel.usage
    row |= {"pairs": given.pairs.name, "seed": given.seed, "rejected": len(rejects)}
    print("\n".join(report_lines(row)))
    print(f"  {row['mode']} mode; rows left out: {len(rejects)}; {used(usage)}")
    return row


def used(usage: Row) -> str:
    """Calls, tokens and money in words."""
    names = ("calls", "stored", "prompt_tokens", "completion_tokens", "cost")
    calls, stored, prompt, completion, cost = (usage.get(name, 0) for name in names)
    return f"{calls} calls and {stored} stored ones, {prompt:,} + {completion:,} tokens, ${cost:.4f}"


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m kyara_utils.preference.validate", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--judge", required=True, action="append", help="of params/models.yaml, or a reward model; may be repeated"
    )
    parser.add_argument("--pairs", required=True, type=Path, help="labelled pairs (layouts: labelled_pairs.py)")
    parser.add_argument("--n", type=int, default=0, help="pairs drawn by seed; 0 takes all (default)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mode", choices=MODES, help="default: text for models of style full, else logprob")
    parser.add_argument("--tie-margin", type=float, default=0.1, help="logprob mode: a smaller difference is a tie")
    parser.add_argument("--repeats", type=int, default=0, help="times that all pairs are asked again")
    parser.add_argument("--bar", type=float, default=0.0, help="kappa's lower end must lie above it (default: 0)")
    parser.add_argument("--budget", type=float, default=0.0, help="USD for one judge's calls; 0 is no limit")
    parser.add_argument("--store", type=Path, help="ledger of calls")
    parser.add_argument("--csv", type=Path, help="write the figures there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KyaraError as error:
        raise SystemExit(f"error: {error}") from error
