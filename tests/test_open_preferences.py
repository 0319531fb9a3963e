"""Published preference sets: every layout read and trained on, every odd row right or a reject with its line."""

import gzip
import json
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kyara_utils.curation.decontamination import BenchmarkNgrams
from kyara_utils.curation.turns import Unreadable
from kyara_utils.models.chat_templates import CHAT_TEMPLATE
from kyara_utils.preference.mixing import mix_preferences
from kyara_utils.preference.open_preferences import OPEN_PREFERENCES, read_open_preferences
from kyara_utils.preference.pair_layouts import pair_of
from kyara_utils.preference.preference_rows import preference
from kyara_utils.report.plots_pairs import preference_lengths
from kyara_utils.report.style import picture
from kyara_utils.runs import KyaraError
from kyara_utils.runs.tables import read_rows
from kyara_utils.training.pair_rows import prepare_pairs

ASK, GOOD, BAD = "台灣最高的山是哪一座？", "台灣最高的山是玉山。", "台灣最高的山是雪山。"
MORE, OFTEN = "它有多高？", "三千九百五十二公尺。"
BEGUN = "Let's think step by step.\nStep 1: 3 apples and 4 pears are 7 pieces of fruit.\nStep 2:"


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def model(text: str) -> dict:
    return {"role": "assistant", "content": text}


TALK = [user(ASK), model(GOOD), user(MORE)]  # a conversation whose second question is the prompt's last turn
RATED = {"chosen_avg_rating": 4.75, "rejected_avg_rating": 2.0}
STEP_ROW = {
    "dataset": "GSM8K", "prompt": "Ann has 3 apples and 4 pears and eats 2 pieces. How many are left?",
    "initial_reason_steps": BEGUN, "chosen": " 7 - 2 = 5 pieces are left.", "rejected": " 7 + 2 = 9 pieces are left.",
    "full_chosen": "…", "full_rejected": "…", "answer": "5",
}  # fmt: skip
HH = f"\n\nHuman: {ASK}\n\nAssistant: {GOOD}\n\nHuman: {MORE}\n\nAssistant: "
PUBLISHED = {  # a file and a row of each set, in the layout of its repository
    "ultrafeedback-binarized-preferences": (
        "data/train-00000-of-00001.parquet",
        {"source": "sharegpt", "instruction": ASK, "chosen_response": GOOD, "rejected_response": BAD, **RATED,
         "chosen_model": "gpt-4"},
    ),
    "ultrafeedback-binarized-preferences-cleaned": (
        "data/train-00000-of-00001.parquet",
        {"source": "flan", "prompt": ASK, "chosen": [user(ASK), model(GOOD)], "chosen-rating": 5.0,
         "chosen-model": "gpt-4", "rejected": [user(ASK), model(BAD)], "rejected-rating": 3.5,
         "rejected-model": "llama-2-7b-chat"},
    ),
    "Math-Step-DPO-10K": ("data/train-00000-of-00001.parquet", STEP_ROW),
    "kyara-chinese-preference-rl-dpo-s0-30K": (
        "data/train-00000-of-00001.parquet", {"prompt": ASK, "chosen": GOOD, "rejected": BAD}
    ),
    "Infinity-Preference": (
        "train-00000-of-00001.parquet",
        {"task_category": "geography", "prompt": ASK, "chosen": [user(ASK), model(GOOD)],
         "rejected": [user(ASK), model(BAD)], "id": 7},
    ),
    "hh-rlhf": ("helpful-base/train.jsonl.gz", {"chosen": HH + OFTEN, "rejected": HH + "很高。"}),
    "distilabel-capybara-dpo-7k-binarized": (
        "data/train-00000-of-00001.parquet",
        {"source": "Airoboros", "conversation": [{"input": ASK, "output": GOOD}], "original_response": OFTEN,
         "prompt": MORE, "chosen": [*TALK, model(OFTEN)], "rejected": [*TALK, model("很高。")],
         "rating_chosen": 5, "rating_rejected": 3.0, "chosen_model": "a", "rejected_model": "b"},
    ),
}  # fmt: skip
EXPECTED = {"Math-Step-DPO-10K": [user(STEP_ROW["prompt"]), model(BEGUN)]}
EXPECTED |= dict.fromkeys(("hh-rlhf", "distilabel-capybara-dpo-7k-binarized"), TALK)


def copy_of(name: str, folder: Path) -> Path:
    """A local copy of a set with one row, in its published layout."""
    file, item = PUBLISHED[name]
    path = folder / name / file
    path.parent.mkdir(parents=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([item]), path)
    else:
        with gzip.open(path, "wt", encoding="utf-8") as out:
            out.write(json.dumps(item) + "\n")
    return path


def read(entries: list[str], root: Path) -> tuple[list[dict], list[dict]]:
    pairs = list(read_open_preferences(entries, root))
    return [row for row, refusal in pairs if not refusal], [refusal for _, refusal in pairs if refusal]


@pytest.fixture(scope="module")
def tokenizer():
    """Bytes and the tokens of Gemma's template: what is masked is decided without any weights."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({letter: at for at, letter in enumerate(letters)}, []))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    core.add_special_tokens(["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<bos>", eos_token="<eos>", chat_template=CHAT_TEMPLATE
    )


@pytest.mark.parametrize("name", sorted(OPEN_PREFERENCES))
def test_named_sets_are_read_from_a_local_copy_and_trained_on(name, tmp_path, tokenizer):
    """From the published file through the mixture of step 06 to the token ids of step 07, prompt and loss apart."""
    copy_of(name, tmp_path)
    mix_preferences(read_open_preferences([f"{name}={name}"], tmp_path), tmp_path, BenchmarkNgrams([])).check()
    (row,) = read_rows(tmp_path / "preferences.parquet")
    assert row["prompt"] == EXPECTED.get(name, [user(ASK)]) and row["source"] == name
    note = json.loads(row["verdicts"])
    assert note["licence"] == OPEN_PREFERENCES[name].licence and note["line"] == "1"
    assert note["file"] in PUBLISHED[name][0]
    (pair,), refused, counts = prepare_pairs([row], tokenizer, 2048)
    step = name == "Math-Step-DPO-10K"
    assert not refused and counts["step_rows"] == step
    for side in ("chosen", "rejected"):
        ending = "" if step else "<end_of_turn>\n"
        assert tokenizer.decode(pair["prompt_ids"] + pair[f"{side}_ids"]).endswith(row[side][0]["content"] + ending)
    assert not {user_text for user_text in (ASK, MORE) if user_text in tokenizer.decode(pair["chosen_ids"])}
    assert tokenizer.decode(pair["prompt_ids"]).count("<start_of_turn>user") == (2 if row["prompt"] == TALK else 1)


def test_notebook_06_mixes_published_rows_with_its_own(tmp_path, tokenizer, capsys):
    """Its cells as they stand, without the models above them: own pairs first, then all sets, and step 07 takes all."""
    notebook = Path(__file__).parents[1] / "notebooks" / "06_dpo_pair_judging.ipynb"
    cells = {cell["id"]: "".join(cell["source"]) for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]}
    for name in PUBLISHED:
        copy_of(name, tmp_path)
    own = preference("問題", "好答案", "壞答案", "spin", "reference", "sft", {}, ["conv_1"], [])
    none = ("rlaif", "sppo", "verified", "steps", "unsolved", "same", "rejected")
    none += ("unranked", "unsure", "unlabelled", "rejects")
    space = {name: [] for name in none} | {"spin": [own], "seed": 0, "held_out_share": 0.0}
    space |= {"run": SimpleNamespace(root=tmp_path, dir=tmp_path), "chain": chain, "BenchmarkNgrams": BenchmarkNgrams}
    space |= {"mix_preferences": mix_preferences, "read_open_preferences": read_open_preferences}
    space |= {"open_preferences": [f"{name}={name}" for name in PUBLISHED], "mixture": {"rlaif": 5}}
    space |= {"benchmark_texts": dict, "picture": picture, "preference_lengths": preference_lengths}
    exec(cells["mixture"] + "\n" + cells["lengths"], space)
    rows = read_rows(tmp_path / "preferences.parquet")
    assert {row["source"] for row in rows} >= {"spin", "Math-Step-DPO-10K", "ultrafeedback-binarized-preferences"}
    assert len(rows) + space["mixed"].rejects == 1 + len(PUBLISHED)  # the fixtures repeat each other
    assert "Math-Step-DPO-10K" in capsys.readouterr().out
    kept, refused, counts = prepare_pairs(rows, tokenizer, 2048)
    assert len(kept) == len(rows) and not refused and counts["step_rows"] == 1


@pytest.mark.parametrize("begun", [BEGUN, "", "  "])
def test_a_step_ends_without_an_end_of_turn_from_the_first_step_on(begun, tokenizer):
    """Before the first step nothing has begun, and only the row's own mark says that no end of turn follows."""
    row = {"id": "s"} | pair_of(STEP_ROW | {"initial_reason_steps": begun})
    assert row["step"] and len(row["prompt"]) == (2 if begun.strip() else 1)
    (pair,), _, _ = prepare_pairs([row], tokenizer, 2048)
    head = f"<bos><start_of_turn>user\n{STEP_ROW['prompt']}<end_of_turn>\n<start_of_turn>model\n{begun.strip(' ')}"
    for side in ("chosen", "rejected"):
        whole = tokenizer.decode(pair["prompt_ids"] + pair[f"{side}_ids"])
        assert whole == head + STEP_ROW[side] and "<end_of_turn>" not in tokenizer.decode(pair[f"{side}_ids"])
    (answer,), _, _ = prepare_pairs([row | {"step": False, "prompt": row["prompt"][:1]}], tokenizer, 2048)
    assert tokenizer.decode(answer["chosen_ids"]).endswith("left.<end_of_turn>\n")


@pytest.mark.parametrize(
    ("item", "prompt"),
    [
        ({"chosen": [user(ASK), model(GOOD)], "rejected": [user(ASK), model(BAD)]}, [user(ASK)]),
        ({"prompt": [], "chosen": [user(ASK), model(GOOD)], "rejected": [user(ASK), model(BAD)]}, [user(ASK)]),
        ({"prompt": " ", "chosen": [user(ASK), model(GOOD)], "rejected": [user(ASK), model(BAD)]}, [user(ASK)]),
        ({"prompt": ASK, "chosen": [*TALK, model(OFTEN)], "rejected": [*TALK, model("很高。")]}, TALK),
        ({"prompt": TALK, "chosen": [model(OFTEN)], "rejected": [model("很高。")]}, TALK),
        ({"prompt": TALK, "chosen": OFTEN, "rejected": "很高。"}, TALK),
        ({"prompt": f"\n\nHuman: {ASK}\n\nAssistant:", "chosen": " a", "rejected": " b"}, [user(ASK)]),
        ({"prompt": ASK, "chosen": model(GOOD), "rejected": model(BAD)}, [user(ASK)]),
        ({"real": [user(ASK), model(GOOD)], "generated": [user(ASK), model(BAD)]}, [user(ASK)]),
        ({"conversations": [{"from": "human", "value": ASK}], "chosen": {"from": "gpt", "value": GOOD},
          "rejected": {"from": "gpt", "value": BAD}}, [user(ASK)]),
        ({"instruction": "回答。", "input": ASK, "chosen": GOOD, "rejected": BAD}, [user(f"回答。\n{ASK}")]),
        ({"system": "你是助理。", "history": [[ASK, GOOD]], "question": MORE, "response_chosen": OFTEN,
          "response_rejected": "很高。"}, [{"role": "system", "content": "你是助理。"}, *TALK]),
        ({"prompt": ASK, "chosen": "字" * 34_000, "rejected": BAD}, [user(ASK)]),
        ({"prompt": ASK, "chosen": GOOD, "rejected": BAD, "score_chosen": None, "score_rejected": 3}, [user(ASK)]),
    ],
)  # fmt: skip
def test_other_layouts_are_read_rightly(item, prompt):
    """No prompt, an empty one, text or turns, a first turn that both sides share: the prompt is what comes before."""
    pair = pair_of(item)
    assert pair["prompt"] == prompt and not pair["step"]
    assert [len(pair[side]) for side in ("chosen", "rejected")] == [1, 1]
    assert {pair[side][0]["role"] for side in ("chosen", "rejected")} == {"assistant"}


PAIR = {"prompt": ASK, "chosen": GOOD, "rejected": BAD}


@pytest.mark.parametrize(
    ("item", "rule"),
    [
        (None, "no_pair"),
        ({"prompt": ASK, "response": GOOD}, "no_pair"),
        ({"prompt": ASK, "completion": GOOD, "label": True}, "kto_row"),
        ({"prompt": [user(ASK)], "completion": [model(GOOD)], "label": False}, "kto_row"),
        (PAIR | {"chosen": ""}, "empty_turn"),
        (PAIR | {"rejected": None}, "empty_turn"),
        (PAIR | {"rejected": []}, "empty_turn"),
        ({"chosen": HH, "rejected": HH + OFTEN}, "empty_turn"),
        (PAIR | {"chosen": [model(" ")]}, "empty_turn"),
        (PAIR | {"chosen": 5}, "not_text"),
        (PAIR | {"chosen": "\ud800"}, "not_text"),
        (PAIR | {"chosen": [{"role": "tool", "content": "{}"}]}, "tool_turn"),
        ({"chosen": GOOD, "rejected": BAD}, "bad_turns"),
        (PAIR | {"prompt": [model(ASK)]}, "bad_turns"),
        (PAIR | {"chosen": [user(GOOD)]}, "bad_turns"),
        ({"chosen": [model(ASK), user(GOOD)], "rejected": [model(ASK), user(BAD)]}, "bad_turns"),
        ({"prompt": [user(ASK), model(GOOD)], "chosen": "好。", "rejected": "不好。"}, "bad_turns"),
        ({"chosen": [user(ASK), model(GOOD)], "rejected": [user(MORE), model(BAD)]}, "bad_turns"),
        (PAIR | {"prompt": MORE, "chosen": [user(ASK), model("a")], "rejected": [user(ASK), model("b")]}, "bad_turns"),
        ({"chosen": [*TALK, model("a")], "rejected": [user(ASK), model("b")]}, "bad_turns"),
        (PAIR | {"rejected": f" {GOOD}\n"}, "same_answers"),
        (PAIR | {"chosen": "a  b", "rejected": "a\nb"}, "same_answers"),
        (PAIR | {"score_chosen": 3, "score_rejected": 3.0}, "tied_rating"),
        (PAIR | {"chosen-rating": 2.5, "rejected-rating": 4.0}, "reversed_rating"),
        (PAIR | {"rating_chosen": float("nan"), "rating_rejected": 1.0}, "bad_rating"),
        (PAIR | {"rating_chosen": "5", "rating_rejected": 1.0}, "bad_rating"),
        (PAIR | {"rating_chosen": [5, 4], "rating_rejected": [1, 2]}, "bad_rating"),
        (PAIR | {"history": 3}, "bad_turns"),
        (PAIR | {"history": {"user": ASK}}, "bad_turns"),
        (STEP_ROW | {"chosen": "\n"}, "empty_turn"),
        (STEP_ROW | {"prompt": None}, "empty_turn"),
    ],
)
def test_what_is_no_pair_is_named(item, rule):
    """Each fault has its rule; none of them may become a pair with the wrong tokens in its loss."""
    with pytest.raises(Unreadable) as raised:
        pair_of(item)
    assert raised.value.rule == rule and str(raised.value)


def test_answers_equal_in_token_ids_and_overlong_ones_are_rejects_of_step_07(tokenizer):
    """The template trims: what differs in text may be equal in ids. A long answer is never cut."""
    row = {"id": "x", "prompt": [user(ASK)], "chosen": [model(GOOD)], "rejected": [model(f"{GOOD}\u2028")]}
    long = row | pair_of(PAIR | {"chosen": "字" * 34_000})
    _, rejects, counts = prepare_pairs([row, long], tokenizer, 4096)
    assert [item["rule"] for item in rejects] == ["same_answers", "too_long"] and not counts["kept"]


def test_bad_rows_of_a_file_are_rejects_with_their_line(tmp_path):
    """Rows in = rows + rejects, whatever stands in the file; the source is the file's name."""
    lines = [json.dumps(PAIR), "{broken", "", json.dumps(PAIR | {"rejected": GOOD}), "[]"]
    (tmp_path / "mine.jsonl").write_text("\n".join(lines), encoding="utf-8")
    rows, rejects = read(["mine.jsonl"], tmp_path)
    assert [row["source"] for row in rows] == ["mine"]
    assert [(item["rule"], item["detail"].partition(" ")[0]) for item in rejects] == [
        ("not_json", "mine.jsonl:2:"), ("not_json", "mine.jsonl:3:"), ("same_answers", "mine.jsonl:4:"),
        ("no_pair", "mine.jsonl:5:"),
    ]  # fmt: skip
    assert all(json.loads(item["row"])["source"] == "mine" for item in rejects)


def test_sets_of_another_kind_are_refused_with_one_line(tmp_path):
    """KTO rows, another layout under a published name and an unknown name are said at once, with the mend."""
    kto = {"prompt": ASK, "completion": GOOD, "label": True}
    (tmp_path / "kto.jsonl").write_text(json.dumps(kto) + "\n", encoding="utf-8")
    for entry, message in (
        ("kto.jsonl", "gives no pair.*fields prompt, completion, label"),
        ("Infinity-Preference=kto.jsonl", r"kto.jsonl:1: Infinity-Preference has no field chosen .*published layout"),
        ("Infinity=kto.jsonl", "is not known"),
    ):
        with pytest.raises(KyaraError, match=message):
            read([entry], tmp_path)


def test_named_sets_are_streamed_from_the_hub(monkeypatch, tmp_path):
    """Rows are taken one by one: a set larger than memory is no trouble, and no code of the set is run."""
    import datasets

    taken = []

    def load(repository, **options):
        assert repository == "BAAI/Infinity-Preference" and options == {"split": "train", "streaming": True}
        return (taken.append(n) or PUBLISHED["Infinity-Preference"][1] for n in range(9))

    monkeypatch.setattr(datasets, "load_dataset", load)
    row, refusal = next(read_open_preferences(["Infinity-Preference"], tmp_path))
    assert row["source"] == "Infinity-Preference" and refusal is None and taken == [0]
