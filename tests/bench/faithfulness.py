"""How well a model's check of faithfulness tells true from false: python tests/bench/faithfulness.py MODEL…

The 60 statements of tests/fixtures/faithfulness.yaml are paraphrases of articles of the bundled corpus, half of them
with one number, name or relation exchanged. The threshold comes from where a run takes it: sentences of the corpus and
their corrupted copies. So precision and recall are those of a run, on statements that the threshold has not seen.
"""

import argparse
import tempfile
from pathlib import Path

import yaml
from record import Result, publish

import kyara_utils
from kyara_utils.llm import Client, Model, connect
from kyara_utils.llm.ledger import Ledger
from kyara_utils.synthesis.faithfulness import LABELS, Calibration, ask_statements, calibrate, measure
from kyara_utils.synthesis.overlap import overlap

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(kyara_utils.__file__).parent / "data" / "corpus"


def paragraphs(name: str) -> list[dict]:
    """The paragraphs of an article as chunks."""
    title, _, body = (CORPUS / name).read_text(encoding="utf-8").partition("\n")
    texts = [text for text in body.split("\n\n") if len(text) >= 40]
    head = {"doc_id": name, "title": title.strip("# ")}
    return [head | {"id": f"{name} {number}", "text": text.strip()} for number, text in enumerate(texts)]


def statements(kind: str) -> list[tuple[dict, str]]:
    """(paragraph, statement): a corrupted statement is asked against the paragraph of its sound counterpart."""
    groups = yaml.safe_load((ROOT / "tests" / "fixtures" / "faithfulness.yaml").read_text(encoding="utf-8"))
    found = []
    for group in groups:
        for sound, text in zip(group["sound"], group[kind], strict=True):
            found.append((max(paragraphs(group["document"]), key=lambda chunk: overlap(sound, chunk["text"])), text))
    return found


def check(client: Client, pairs: int) -> tuple[Calibration, Calibration, float, float]:
    """(scale from corrupted sentences, best possible on the statements, precision, recall at the scale's threshold)."""
    chunks = [chunk for path in sorted(CORPUS.glob("*/*.md")) for chunk in paragraphs(str(path.relative_to(CORPUS)))]
    scale = calibrate(client, chunks, pairs)
    values = {kind: ask_statements(client, statements(kind), "zh-Hant") for kind in ("sound", "corrupted")}
    caught, lost = (sum(v is not None and v < scale.threshold for v in values[kind]) for kind in ("corrupted", "sound"))
    return (
        scale,
        measure(values["sound"], values["corrupted"]),
        caught / max(1, caught + lost),
        caught / len(values["corrupted"]),
    )


def main() -> None:
    """Measure every model named, embedded by name or at an address, and write results/faithfulness.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help="names of params/models.yaml")
    parser.add_argument("--url", default="", help="ask this address instead of starting the model")
    parser.add_argument("--pairs", type=int, default=24, help="pairs of true and corrupted sentences for the threshold")
    options = parser.parse_args()
    results = []
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            store = Path(folder) / "calls.sqlite"
            model = Model(name, base_url=options.url, style="brief", engine="llamacpp", parallel=2, timeout=3600)
            with Client(model, Ledger(store)) if options.url else connect(name, store) as client:
                scale, best, precision, recall = check(client, options.pairs)
        note = f"labels {'/'.join(LABELS['zh-Hant'])}, threshold {scale.threshold} from {scale.pairs} corrupted pairs"
        figures = {"auc on corrupted sentences": scale.auc, "auc on written statements": best.auc,
                   "precision": precision, "recall": recall}  # fmt: skip
        results += [Result(f"{name} {metric}", "share", [value], note=note) for metric, value in figures.items()]
    publish("faithfulness", results, ["xllamacpp"])


if __name__ == "__main__":
    main()
