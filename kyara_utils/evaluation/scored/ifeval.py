"""IFEval: a verdict per instruction by lm-evaluation-harness's own checkers, made repeatable and network-free.

Paper: Zhou et al. 2023, arXiv 2311.07911; checkers: `lm_eval.tasks.ifeval` (extra `eval`). Three things are fixed
here: importing them would download NLTK's `punkt_tab`, so an untrained Punkt with English abbreviations stands in;
langdetect and the checkers' `random` are seeded; and keys whose checker draws a random letter are flagged, not
scored (`RANDOM_KEYS`).
"""

import os
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row

RANDOM_KEYS = (1122, 1129)  # letters "#" and "!", which the checker replaces by a random one, as upstream has it
SEED = 0
LANGUAGE_RULES = ("response_language", "english_capital", "english_lowercase")
LATER_QUOTES = r"\u2018\u2019\u201c\u201d\xab\xbb"  # as NLTK 3.10 spells them in its patterns
ABBREVIATIONS = (  # of newspaper English, which the trained model learned from: so neither `e.g` nor `etc`
    "adm ave bros capt co col corp cos ct dr ft gen gov hosp inc jr lt ltd maj messrs mr mrs ms mt ph ph.d pp prof "
    "rep reps rev sen sr st vs yr jan feb aug sep sept oct nov dec mon tues wed thurs fri a.m p.m u.k u.n u.s u.s.a "
    "d.c l.a n.y n.j ala ariz ark calif colo conn del fla ga ill ind kan ky mass md minn mo nev okla ore pa tenn tex "
    "va vt wash wis wyo"
).split()
STARTERS = (  # words that begin sentences, so that `etc. The` and `… But` end one
    "the this that these those it he she they we you i there here in on at by for from with without as if when while "
    "after before since because although though however but and or so then thus therefore also moreover furthermore "
    "what why how who where which is are was do does did can could should would will may let my your his her our their "
    "a an another each every all some many most one two first second finally next now today no not yes"
).split()


@cache
def checkers() -> dict[str, Callable]:
    """Import the checkers once, offline; raises KyaraError when the extra is not installed."""
    with _no_download():
        try:
            import langdetect
            import nltk
            from lm_eval.tasks.ifeval import instructions_registry, instructions_util
        except ImportError as error:
            why = f"IFEval needs lm-evaluation-harness ({error.name} is missing)"
            raise KyaraError(f"{why}; pip install 'kyara-utils[eval]'") from error
    langdetect.DetectorFactory.seed = SEED
    tokenizer = _sentence_tokenizer(nltk.tokenize.punkt, instructions_util.WORD_LIST)
    instructions_util._get_sentence_tokenizer = lambda: tokenizer
    nltk.tokenize._get_punkt_tokenizer = lambda language="english": tokenizer
    return instructions_registry.INSTRUCTION_DICT


@contextmanager
def _no_download() -> Iterator[None]:
    """The checkers fetch `punkt_tab` at import unless they think that another process of the machine does."""
    before = os.environ.get("LOCAL_RANK")
    os.environ["LOCAL_RANK"] = "1"
    try:
        yield
    finally:
        os.environ.pop("LOCAL_RANK")
        if before is not None:
            os.environ["LOCAL_RANK"] = before


def _sentence_tokenizer(punkt: Any, words: list[str]) -> Any:
    """Punkt for English without the trained model, with the quote rules that the published verdicts were made by.

    Later NLTK closes sentences at curly quotes too; the checkers of 2023 did not, so those are taken out again.
    """
    base = punkt.PunktLanguageVars
    changed = {
        "_re_non_word_chars": base()._re_non_word_chars.replace(LATER_QUOTES, ""),
        "re_boundary_realignment": re.compile(
            base.re_boundary_realignment.pattern.replace(LATER_QUOTES, ""), re.MULTILINE
        ),
    }
    parameters = punkt.PunktParameters()
    parameters.abbrev_types = set(ABBREVIATIONS)
    parameters.sent_starters = set(STARTERS)
    parameters.ortho_context.update(dict.fromkeys((*words, *STARTERS), punkt._ORTHO_MID_LC))
    return punkt.PunktSentenceTokenizer(parameters, lang_vars=type("Punctuation2023", (base,), changed)())


def variants(response: str) -> list[str]:
    """The eight readings of the loose rule: as it is, without first and/or last line, each also without asterisks."""
    lines = response.split("\n")
    cut = [response, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return cut + [text.replace("*", "") for text in cut]


def follows(item: Row, responses: list[str]) -> list[bool]:
    """Per instruction of `item` {prompt, instruction_id_list, kwargs}: does any of the responses follow it?

    Raises KyaraError for an instruction the checkers do not know.
    """
    known, verdicts = checkers(), []
    for name, arguments in zip(item["instruction_id_list"], item["kwargs"], strict=True):
        name = name.removeprefix("en:")
        if name not in known:
            raise KyaraError(f"IFEval instruction {name!r} is unknown to the installed lm_eval; correct the item")
        checker = known[name](name)
        checker.build_description(**{key: value for key, value in arguments.items() if value is not None})
        if "prompt" in (checker.get_instruction_args() or {}):
            checker.build_description(prompt=item["prompt"])
        verdicts.append(any(bool(text.strip() and checker.check_following(text)) for text in responses))
    return verdicts


def undecided(item: Row, position: int, response: str, loose: bool = False) -> bool:
    """Can the verdict on one instruction come out either way by what upstream leaves to chance?

    True when seeds of langdetect disagree, or when a sentence count is within 5 % of its limit, where the
    trained Punkt of the published verdicts may decide otherwise than the untrained one here (0 below ten).
    """
    only = {"prompt": item["prompt"], "key": item.get("key", "")}
    only |= {name: [item[name][position]] for name in ("instruction_id_list", "kwargs")}
    name, arguments = only["instruction_id_list"][0], only["kwargs"][0]
    texts = variants(response) if loose else [response]
    if name.endswith("number_sentences"):
        limit = arguments["num_sentences"]
        slack = (limit + 10) // 20
        tries = [only | {"kwargs": [arguments | {"num_sentences": limit + step}]} for step in (-slack, slack)]
        return len({follows(one, texts)[0] for one in tries}) == 2
    return name.endswith(LANGUAGE_RULES) and _depends_on_seed(only, texts)


def _depends_on_seed(item: Row, texts: list[str]) -> bool:
    """Try other seeds until two disagree: a few for long texts, many for a word or two, which langdetect guesses."""
    import langdetect

    before = follows(item, texts)
    try:
        for seed in range(1, 65 if len(texts[0]) < 200 else 9):
            langdetect.DetectorFactory.seed = seed
            if follows(item, texts) != before:
                return True
        return False
    finally:
        langdetect.DetectorFactory.seed = SEED


def verdicts(item: Row, response: str) -> tuple[list[bool], list[bool]]:
    """Strict and loose verdict per instruction, with Python's global random state left as it was found."""
    state = random.getstate()
    random.seed(f"{SEED} {item.get('key', '')}")
    try:
        strict = follows(item, [response])
        loose = strict if all(strict) else follows(item, variants(response))
    finally:
        random.setstate(state)
    return strict, [one or other for one, other in zip(strict, loose, strict=True)]
