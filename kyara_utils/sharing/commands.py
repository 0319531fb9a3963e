"""`export` and `push` of the command line: their options, and the lines that they say. Imports wait for the command."""

import argparse
from collections.abc import Iterator
from pathlib import Path


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Enter both into the command line's grammar."""
    out = commands.add_parser("export", help="write a recipe's sets in the layout of another tool")
    out.add_argument("recipe")
    out.add_argument("--layout", required=True, help="trl, llama-factory, sharegpt, argilla or data-designer")
    out.add_argument("--to", required=True, metavar="FOLDER", help="a new folder")
    push = commands.add_parser("push", help="publish a recipe's dataset, model and GGUF on the Hugging Face Hub")
    push.add_argument("recipe")
    push.add_argument("--to", required=True, metavar="OWNER/NAME", help="name of the dataset and of the model")
    push.add_argument("--yes", action="store_true", help="send it; without this, only say what would go where")
    push.add_argument("--dry-run", action="store_true", help="only say what would go where, as without --yes")
    push.add_argument("--public", action="store_true", help="new repositories are public; else private")
    push.add_argument("--only", default="", metavar="PART", help="dataset, model or gguf alone")
    push.add_argument("--model", default="", help="sft or dpo; the newest if not given")
    push.add_argument("--licence", default="", help="of your documents, as the Hub names it, e.g. cc-by-4.0")
    push.add_argument("--model-licence", default="", help="of a model that is no Gemma, e.g. apache-2.0")


def export_lines(options: argparse.Namespace) -> Iterator[str]:
    """Write the export and say how many rows each file holds."""
    from kyara_utils.sharing.exporting import export

    made = export(options.recipe, options.layout, Path(options.to))
    yield from (f"{rows:>9,} rows  {options.to}/{name}" for name, rows in made.items())


def push_lines(options: argparse.Namespace) -> Iterator[str]:
    """Say what would go where and, if that was wished, send it."""
    from kyara_utils.sharing.repositories import repositories
    from kyara_utils.sharing.uploading import plan_lines, upload

    names = (options.to, options.only, options.model, options.licence, options.model_licence)
    planned = repositories(options.recipe, *names)
    yield from plan_lines(planned, options.public)
    if options.dry_run or not options.yes:
        yield "nothing was sent; the cards and tables lie in the run's folder hub, and --yes sends all of it"
    else:
        yield from upload(planned, options.public)
