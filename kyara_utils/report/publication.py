"""The texts that leave a run: both cards and the report, put together from its small tables and manifests."""

from pathlib import Path

from kyara_utils.report import cards, collect
from kyara_utils.runs import Run, read_csv

DATA_STEPS = 4  # the steps that make the data set are the first so many


def texts(run: Run, data: Path, figures: Path) -> dict[str, str]:
    """Return {file name: text} of the dataset card, the model card and the one-page report."""
    manifests = [run.manifest_of(need) for need in run.step.needs]
    names = ("scores", "pairwise", "card", "claims", "sums", "contamination", "differences", "steps")
    tables = {name: read_csv(data / f"{name}.csv") for name in (*names, "language_distribution")}
    title = f"kyara-{run.recipe}"
    base = cards.hub_name(run.params_of("05_sft")["base_model"])
    seen = {"card": tables["card"], "contamination": tables["contamination"]}
    sections = [
        {"heading": "Steps", "rows": tables["steps"]},
        {"heading": "Scores", "rows": tables["scores"]},
        {"heading": "Paired differences", "rows": tables["differences"]},
        *cards.evaluation_sections(tables["card"], tables["claims"], tables["sums"], tables["contamination"]),
    ]
    return {
        "dataset_card.md": cards.dataset_card(title, manifests[:DATA_STEPS], tables["language_distribution"]),
        "model_card.md": cards.model_card(title, "dpo", base, manifests, tables["scores"], tables["pairwise"], **seen),
        "report.html": cards.html_report(f"Kyara, recipe {run.recipe}", sections, collect.captions(figures)),
    }
