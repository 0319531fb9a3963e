"""The cards that leave a run, put together from its small tables and manifests."""

from pathlib import Path

from kyara_utils.report import cards
from kyara_utils.runs import Run, read_csv

DATA_STEPS = 4  # the steps that make the data set are the first so many


def texts(run: Run, data: Path) -> dict[str, str]:
    """Return {file name: text} of the dataset card and the model card."""
    manifests = [run.manifest_of(need) for need in run.step.needs]
    names = ("scores", "pairwise", "card", "contamination", "language_distribution")
    tables = {name: read_csv(data / f"{name}.csv") for name in names}
    title = f"kyara-{run.recipe}"
    base = cards.hub_name(run.params_of("05_sft")["base_model"])
    seen = {"card": tables["card"], "contamination": tables["contamination"]}
    return {
        "dataset_card.md": cards.dataset_card(title, manifests[:DATA_STEPS], tables["language_distribution"]),
        "model_card.md": cards.model_card(title, "dpo", base, manifests, tables["scores"], tables["pairwise"], **seen),
    }
