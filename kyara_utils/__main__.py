"""`python -m kyara_utils COMMAND`, see `parser`: the command line; errors are one line, exit code 1."""

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kyara_utils.runs.env import LIVE
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.logs import show_messages
from kyara_utils.sharing.commands import add_commands, export_lines, push_lines

EXAMPLES = """examples:
  python -m kyara_utils run smoke                                  the whole chain, embedded models, minutes
  python -m kyara_utils run gemma-3-1b --dry-run                   what would run, what it costs, what is missing
  python -m kyara_utils run smoke --set 01.corpus=./my-documents   your own folder, as seen from where you stand
  python -m kyara_utils run smoke --from 05 --set 05.epochs=2      train again and go on from there
  python -m kyara_utils status smoke                               what is done, when, and what has changed since
  python -m kyara_utils compare taiwan taiwan-no-documents         what a variant gains or loses, with intervals
  python -m kyara_utils report smoke                               its results and all its rows as pages to look at
  python -m kyara_utils export smoke --layout trl --to ./rows      its rows and pairs as TRL reads them
  python -m kyara_utils push smoke --to ME/kyara-smoke             what would go to the Hub; --yes sends it
  python -m kyara_utils chat smoke --rag                           ask its newest model, answers with checked citations
  python -m kyara_utils serve smoke --model dpo                    that model behind an OpenAI-compatible address
"""


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = argparse.ArgumentParser(
        prog="python -m kyara_utils", description="Run a recipe of params/, and look at what it has made.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = top.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run a recipe's notebooks in order, skipping what is fresh")
    run.add_argument("recipe", help="a folder of params/ or a file of params/variants, e.g. smoke")
    run.add_argument(
        "--dry-run",
        action="store_true",
        help="only say what would run and why, calls, tokens, money and hours, and what is missing",
    )
    run.add_argument("--only", default="", metavar="STEP", help="run this step alone (05 or 05_sft)")
    run.add_argument("--from", default="", dest="first", metavar="STEP", help="begin with this step")
    run.add_argument("--to", default="", dest="last", metavar="STEP", help="end with this step")
    run.add_argument(
        "--set", action="append", default=[], dest="settings", metavar="STEP.NAME=VALUE",
        help="override a parameter, e.g. 05_sft.epochs=2; may be repeated",
    )  # fmt: skip
    run.add_argument(
        "--live", action="store_true", help="ask the models, in runs/live, although the recipe ships their answers"
    )
    status = commands.add_parser("status", help="show which steps are done, fresh or stale, and why")
    status.add_argument("recipe", nargs="?", default="smoke")
    report = commands.add_parser("report", help="write a recipe's results and rows as a folder of offline pages")
    report.add_argument("recipe", nargs="?", default="smoke")
    compare = commands.add_parser("compare", help="evaluations beside each other, question by question")
    compare.add_argument("recipes", nargs="+", help="the recipe that the others are compared with, then those")
    compare.add_argument("--model", default="sft", help="whose answers: sft_base, sft or dpo (default: sft)")
    compare.add_argument("--to", default="", metavar="FOLDER", help="write the tables as CSV, too")
    add_commands(commands)
    chat = commands.add_parser("chat", help="talk to a model of a recipe; reads lines from a pipe, too")
    served = commands.add_parser("serve", help="put a model of a recipe behind an address, or look at any address")
    for one in (chat, served):
        one.add_argument("recipe", nargs="?", default="", help="a folder of params/ (default: smoke)")
        one.add_argument(
            "--model", default="", help="base, sft, dpo, a name of params/models.yaml; default: the newest"
        )
        one.add_argument("--threads", type=int, default=0, help="of an embedded model; default: all cores")
    chat.add_argument("--rag", action="store_true", help="answer from the recipe's index, with checked citations")
    chat.add_argument("--system", default="", metavar="TEXT", help="the system prompt")
    chat.add_argument("--max-tokens", type=int, default=512, help="of one answer (default: 512)")
    served.add_argument("--port", type=int, default=8080, help="0 takes a free one (default: 8080)")
    served.add_argument(
        "--check", default="", metavar="URL", help="only ask what this address (or name of params/models.yaml) can do"
    )
    calls = commands.add_parser("calls", help="show a recipe's ledger of LLM calls, export it, or import one")
    calls.add_argument("recipe", nargs="?", default="smoke")
    calls.add_argument("--export", default="", dest="target", metavar="FILE", help="write all calls as Parquet")
    calls.add_argument(
        "--shipped", action="store_true", help="export what the last run of steps 01 to 04 took, cut, with a README"
    )
    calls.add_argument("--import", default="", dest="source", metavar="FILE", help="add the calls of such a file")
    commands.add_parser("times", help="write the published run's times and address into the notebooks")
    commands.add_parser("doctor", help="show what this machine has and what is missing, with the fix")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    options = parser().parse_args(arguments)
    show_messages()
    try:
        code = COMMANDS[options.command](options)
        sys.stdout.flush()
        return code
    except KyaraError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever reads the pipe has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(options: argparse.Namespace) -> int:
    from kyara_utils.llm.plan import Plan
    from kyara_utils.llm.replay import shipped_calls
    from kyara_utils.runs.pipeline import run

    if options.live:
        os.environ[LIVE] = "1"  # the notebooks' kernels read it, too
    if shipped := shipped_calls(options.recipe):
        print(f"calls that {shipped} holds are not asked again; --live asks them")
    chosen = (options.only, options.first, options.last)
    count = run(options.recipe, options.settings, *chosen, options.dry_run, Plan())
    print(f"{count} step(s) {'would run' if options.dry_run else 'ran'}")
    return 0


def _status(options: argparse.Namespace) -> int:
    from kyara_utils.runs.pipeline import status

    for row in status(options.recipe):
        seconds = f"{row['seconds']:7.1f} s {row['peak_gb']:5.2f} GB" if row["seconds"] is not None else " " * 18
        rows = ", ".join(f"{name} {count}" for name, count in row["rows"].items())
        date = row["finished"][:16].replace("T", " ")
        print(f"{row['step']:<24} {date:<16} {seconds}  {row['state']:<28} {rows}".rstrip())
    return 0


def _report(options: argparse.Namespace) -> int:
    from kyara_utils.report.site.publish import write_report

    print(f"open {write_report(options.recipe)}")
    return 0


def _compare(options: argparse.Namespace) -> int:
    from kyara_utils.evaluation.compare_runs import comparison_lines

    return _say(comparison_lines(options.recipes, options.model, options.to))


def _chat(options: argparse.Namespace) -> int:
    from kyara_utils.chat.terminal import chat

    return chat(
        options.recipe or "smoke", options.model, options.rag, options.system, options.max_tokens, options.threads
    )


def _serve(options: argparse.Namespace) -> int:
    from threading import Event

    from kyara_utils.chat.hosting import hosted, look_at
    from kyara_utils.runs.finished import so_far

    if options.check:
        found = so_far(options.recipe) if options.recipe else None
        return _show(look_at(options.check, found, options.model))
    recipe = options.recipe or "smoke"
    with hosted(recipe, so_far(recipe), options.model, options.port, options.threads) as lines:
        print(*lines, "Ctrl-C stops it", sep="\n", flush=True)
        try:
            Event().wait()
        except KeyboardInterrupt:
            print("stopped")
    return 0


def _export(options: argparse.Namespace) -> int:
    return _say(export_lines(options))


def _push(options: argparse.Namespace) -> int:
    return _say(push_lines(options))


def _say(lines: Iterable[str]) -> int:
    for line in lines:
        print(line, flush=True)
    return 0


def _calls(options: argparse.Namespace) -> int:
    from kyara_utils.llm import replay
    from kyara_utils.llm.shipping import ship
    from kyara_utils.runs.env import find_root, runs_dir

    path = runs_dir(find_root()) / options.recipe / "calls.sqlite"
    if options.source:
        print(f"{replay.import_calls(Path(options.source), path)} calls added to {path}")
    if options.target and options.shipped:
        facts = ship(options.recipe, path, Path(options.target))
        print(f"{sum(facts['stages'].values())} calls and a README written to {options.target}")
    elif options.target:
        print(f"{replay.export_calls(path, Path(options.target))} calls written to {options.target}")
    for row in replay.totals(path):
        tokens = f"{row['prompt_tokens']:>12,} prompt {row['completion_tokens']:>12,} completion tokens"
        print(f"{row['model']:<24} {row['calls']:>8,} calls {tokens} {row['cost']:>10} {row['failures']:>6} failures")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from kyara_utils.doctor import examine

    return _show(examine())


def _show(findings: Iterable[Any]) -> int:
    """Print findings (`doctor.Finding`, or its fields) as they come; 1 where something needed is missing."""
    from kyara_utils.doctor import Finding

    code = 0
    for one in findings:
        finding = one if isinstance(one, Finding) else Finding(*one)
        print(finding, flush=True)
        code |= bool(finding.fix and finding.needed)
    return code


def _times(options: argparse.Namespace) -> int:
    from kyara_utils.report.times import write_times
    from kyara_utils.runs.env import find_root

    changed = write_times(find_root())
    print(f"times written into {', '.join(changed)}" if changed else "all notebooks say what the published run took")
    return 0


COMMANDS = {
    "run": _run, "status": _status, "report": _report, "compare": _compare, "export": _export, "push": _push,
    "chat": _chat, "serve": _serve, "calls": _calls, "times": _times, "doctor": _doctor,
}  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
