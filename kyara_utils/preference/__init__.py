"""Preference pairs: several models' answers judged in both orders (RLAIF), and the model against its data (SPIN)."""

from kyara_utils.preference.candidates import answer_all, answer_prompts, students
from kyara_utils.preference.judge import Pair, Verdict, judge_known, judge_pairs
from kyara_utils.preference.judge_report import judge_rows, judge_summary, pair_lines
from kyara_utils.preference.preference_rows import form_pairs, mix, rlaif_preferences, spin_preferences
from kyara_utils.preference.sppo import sppo_preferences

__all__ = [
    "Pair", "Verdict", "answer_all", "answer_prompts", "form_pairs", "judge_known", "judge_pairs",
    "judge_rows", "judge_summary", "mix", "pair_lines", "rlaif_preferences", "spin_preferences", "sppo_preferences",
    "students",
]  # fmt: skip
