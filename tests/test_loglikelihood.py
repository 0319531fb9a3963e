"""Log-likelihoods are those of a plain forward pass and of lm-evaluation-harness, however questions are batched."""

import importlib.util
import random

import pytest

from kyara_utils.evaluation.backends.generating import generate_texts
from kyara_utils.evaluation.backends.letters import calibrated, choice_rows, exam_prompt
from kyara_utils.evaluation.backends.loglikelihood import TOKEN_BUDGET, batches, choice_logprobs, encode
from kyara_utils.runs.errors import KyaraError

LETTERS = "abcdefghijklmnopqrstuvwxyz ABCDE(:)"
LONGER = ["A", "bc", "Dead ", "abcdefg"]
ITEMS = [
    {"id": f"s/{n}", "subject": "s", "question": text, "A": "a", "B": "b", "C": "c", "D": "d", "answer": "B"}
    for n, text in enumerate(["ab", "cde fg", "hij", "klmno pq"])
]
needs_harness = pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="pip install lm_eval")


def tiny_tokenizer():
    """One token a character, a begin-of-text token in front."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {name: n for n, name in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", *LETTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def tiny_model(kind: str):
    """Random Gemma 3 with a window shorter than the questions, or Gemma 2 with its soft-capped logits."""
    import torch
    from transformers import AutoModelForCausalLM, Gemma2Config, Gemma3TextConfig

    shape = {
        "vocab_size": len(LETTERS) + 4, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "query_pre_attn_scalar": 16,
        "sliding_window": 8, "max_position_embeddings": 96, "initializer_range": 0.3, "dtype": "float32",
        "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0, "layer_types": ["sliding_attention", "full_attention"],
    }  # fmt: skip
    torch.manual_seed(0)
    config = Gemma3TextConfig(**shape) if kind == "gemma3" else Gemma2Config(**shape, final_logit_softcapping=2.0)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads of a model this small only wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=["gemma3", "gemma2"])
def model(request):
    return tiny_model(request.param)


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def questions(n: int = 7, longest: int = 50) -> list[str]:
    draw = random.Random(1)
    return ["".join(draw.choices(LETTERS[:26], k=draw.randint(1, longest))) + ":(" for _ in range(n)]


def plain(model, tokenizer, context: str, choice: str) -> float:
    """The definition, without batch, cache or padding."""
    import torch

    head, whole = tokenizer.encode(context), tokenizer.encode(context + choice)
    with torch.inference_mode():
        table = model(torch.tensor([whole[:-1]])).logits[0].log_softmax(-1)
    return sum(float(table[i - 1, whole[i]]) for i in range(len(head), len(whole)))


@pytest.mark.parametrize("choices", [list("ABCD"), LONGER])
@pytest.mark.parametrize("budget", [1, 90, TOKEN_BUDGET])
def test_batches_give_the_numbers_of_one_plain_forward_pass(model, tokenizer, choices, budget):
    asked = questions()
    found = choice_logprobs(model, tokenizer, asked, [choices] * len(asked), budget)
    wanted = [[plain(model, tokenizer, question, choice) for choice in choices] for question in asked]
    assert [row.index(max(row)) for row in found] == [row.index(max(row)) for row in wanted]
    for row, truth in zip(found, wanted, strict=True):
        assert row == pytest.approx(truth, abs=1e-4)


@needs_harness
@pytest.mark.parametrize("choices", [list("ABCD"), [" A", "bc", "Dead"]])
def test_the_harness_gives_the_same_answers_also_when_a_question_is_too_long(model, tokenizer, choices):
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    asked = [*questions(), "ends with white space: "]
    asked += ["abcdefghij" * 12 + ":("] if max(map(len, choices)) == 1 else []
    found = choice_logprobs(model, tokenizer, asked, [choices] * len(asked))
    requests = [
        Instance(request_type="loglikelihood", doc={}, arguments=(question, choice), idx=0)
        for question in asked
        for choice in choices
    ]
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4).loglikelihood(requests, disable_tqdm=True)
    assert sum(found, []) == pytest.approx([value for value, _ in theirs], abs=1e-4)


def test_a_batch_stays_within_the_budget_and_mixes_lengths_only_without_a_cache(tokenizer):
    rows = [encode(tokenizer, text, ["A", "B"], 99) for text in questions(30)]
    rows += [encode(tokenizer, text, ["A", "bc"], 99) for text in questions(30)]
    found = list(batches(rows, 100))
    assert sorted(i for batch in found for i in batch) == list(range(60))
    for batch in found:
        lengths = [len(rows[i].context) for i in batch]
        assert len(batch) == 1 or max(lengths) * len(batch) <= 100
        assert max(batch) < 30 or (min(batch) >= 30 and len(set(lengths)) == 1)
    assert any(len({len(rows[i].context) for i in batch}) > 1 for batch in found)


def test_ragged_choices_keep_their_places(tokenizer):
    model, asked = tiny_model("gemma3"), questions(5)
    choices = [["A"], ["bc", "A"], ["A", "B", "C"], ["abc"], LONGER]
    found = choice_logprobs(model, tokenizer, asked, choices)
    wanted = [[plain(model, tokenizer, q, c) for c in texts] for q, texts in zip(asked, choices, strict=True)]
    assert [pytest.approx(row, abs=1e-4) for row in wanted] == found


def test_every_item_is_reported_as_soon_as_its_batch_is_done(tokenizer):
    seen = {}
    found = choice_logprobs(tiny_model("gemma3"), tokenizer, questions(9), [list("AB")] * 9, 80, seen.__setitem__)
    assert seen == dict(enumerate(found))
    assert list(seen) != sorted(seen)  # by length


@pytest.mark.parametrize("choices", [list("ABCD"), LONGER])
def test_batches_on_several_cores_give_the_same_and_leave_the_threads_as_they_were(model, tokenizer, choices):
    import torch

    asked = questions(40)
    alone = choice_logprobs(model, tokenizer, asked, [choices] * 40, 60)
    torch.set_num_threads(4)
    try:
        together = choice_logprobs(model, tokenizer, asked, [choices] * 40, 60)
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(1)
    assert [pytest.approx(row, abs=1e-4) for row in alone] == together
    assert not model.get_output_embeddings()._forward_pre_hooks


@pytest.mark.parametrize(("question", "choice"), [("  ", "A"), ("abc", ""), ("abc", "a" * 99)])
def test_what_cannot_be_scored_is_one_line(tokenizer, question, choice):
    with pytest.raises(KyaraError):
        choice_logprobs(tiny_model("gemma3"), tokenizer, [question], [[choice]])


@pytest.mark.parametrize("budget", [1, 10_000])
def test_batched_answers_are_the_answers_one_by_one_and_end_before_a_stop_text(tokenizer, budget):
    import torch

    model, asked = tiny_model("gemma3"), questions(6)
    wanted = []
    for question in asked:
        ids = tokenizer.encode(question)
        for _ in range(12):
            with torch.inference_mode():
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == 1:
                break
        wanted.append(tokenizer.decode(ids[len(tokenizer.encode(question)) :], skip_special_tokens=True))
    found = generate_texts(model, tokenizer, asked, 12, token_budget=budget)
    assert [row["text"] for row in found] == wanted
    mark = next(text for text in wanted if len(text) > 4)[2:4]
    cut = generate_texts(model, tokenizer, asked, 12, [mark], budget)
    assert [row["text"] for row in cut] == [text.split(mark)[0] for text in wanted]
    assert all(row["finish_reason"] == "stop" for row, text in zip(cut, wanted, strict=True) if mark in text)
    assert "length" in {row["finish_reason"] for row in found}


def table(*values: float) -> dict[str, float]:
    return dict(zip("ABCD", values, strict=False))


def test_an_item_with_its_options_in_the_question_is_asked_as_it_is():
    assert exam_prompt({"question": "1. x(A)1(B)2"}) == "題目:1. x(A)1(B)2\n答案:("
    assert exam_prompt(ITEMS[0]).endswith("(C) c\n(D) d\n答案:(")


def test_rows_have_three_outcomes_and_say_why():
    items = [ITEMS[0] | {"answer": answer} for answer in "BAEBB"]
    tables = [table(-3, -1, -2, -4)] * 3 + [table(-1, -1, -2, -4), table(-1, -2)]
    rows = choice_rows(items, tables)
    assert [row["outcome"] for row in rows] == ["correct", "wrong", "wrong", "unscored", "unscored"]
    assert rows[0]["chosen"] == "B" and rows[0]["margin"] == 1 and not rows[0]["reason"]
    assert "E" in rows[2]["reason"] and "tie" in rows[3]["reason"] and "A, B" in rows[4]["reason"]


def test_calibration_removes_a_liking_for_one_letter_and_leaves_incomplete_rows_alone():
    items = [ITEMS[0] | {"id": str(n), "answer": answer} for n, answer in enumerate("ABCDA")]
    tables = [
        table(*(0.0 if letter == "A" else -5.0 + (letter == item["answer"]) for letter in "ABCD")) for item in items
    ]
    tables[0]["A"] += 0.5
    tables[4] = {"A": -1.0}
    rows = choice_rows(items, tables)
    assert [row["chosen"] for row in rows] == ["A", "A", "A", "A", ""]
    fair = calibrated(items, rows)
    assert [row["chosen"] for row in fair] == ["A", "B", "C", "D", ""]
    assert fair[4]["reason"] == rows[4]["reason"]
