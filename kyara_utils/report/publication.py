"""The cards that leave a run, put together from its small tables and manifests."""

from pathlib import Path

from kyara_utils.report import card_facts, cards, pair_facts
from kyara_utils.report.site.entries import PAIRS, SFT, Found
from kyara_utils.runs import Run, finished, read_csv

DATA_STEPS = 4  # the steps that make the data set are the first so many


def texts(run: Run, data: Path) -> dict[str, str]:
    """Return {file name: text} of the cards of the training rows, of the pairs and of the model."""
    found, title = finished(run.recipe), f"kyara-{run.recipe}"
    return {
        "dataset_card.md": dataset_text(found, data, title),
        "preference_card.md": preference_text(found, data, f"{title}-preferences"),
        "model_card.md": model_text(found, data, title),
    }


def dataset_text(found: Found, data: Path, title: str, repository: str = "", licence: str = "") -> str:
    """The dataset card of the finished steps; `data` is 09's folder of tables, `repository` its name on the Hub.

    licence: the Hub's identifier of the documents' licence, where it is not that of the bundled ones.
    """
    facts = card_facts.data_facts(found, data, repository, licence)
    manifests = [found[step] for step in list(found)[:DATA_STEPS]]
    return cards.dataset_card(title, manifests, read_csv(data / "language_distribution.csv"), facts=facts)


def preference_text(found: Found, data: Path, title: str, licence: str = "", published: bool = False) -> str:
    """The card of step 06's pairs, to lie beside `preferences.parquet` and `held_out.parquet`, or, published, in the
    repository of all sets."""
    facts = pair_facts.pair_facts(found, data, licence)
    places = {one.split: cards.file_of(one) for one in facts["sets"]} if published else cards.PAIR_FILES
    return cards.preference_card(title, [found[PAIRS]], facts, places)


def model_text(
    found: Found, data: Path, title: str, model: str = "dpo", repository: str = "", dataset: str = "", licence: str = ""
) -> str:
    """The model card of a trained model (dpo, sft); `repository` and `dataset` are names on the Hub."""
    tables = {name: read_csv(data / f"{name}.csv") for name in ("scores", "pairwise", "card", "contamination")}
    base = cards.hub_name(found[SFT]["key"]["params"]["base_model"])
    manifests = [done for step, done in found.items() if step < "09"]
    facts = card_facts.model_facts(found, data, model, repository, licence)
    more = {"card": tables["card"], "contamination": tables["contamination"], "datasets": [dataset] if dataset else []}
    return cards.model_card(title, model, base, manifests, tables["scores"], tables["pairwise"], facts=facts, **more)
