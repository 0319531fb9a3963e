"""Preference pairs: answers judged in both orders, the model against its data, exact checks, steps, published sets."""

from kyara_utils.preference.best_worst import ranked_preferences
from kyara_utils.preference.candidates import answer_all, answer_prompts, students
from kyara_utils.preference.judge import Pair, Verdict, judge_pairs
from kyara_utils.preference.judge_report import judge_rows, judge_summary, model_wins, pair_lines
from kyara_utils.preference.judge_test import report_lines, trust_line, try_judge, try_panel
from kyara_utils.preference.judges import LlmJudge, Panel, open_panel
from kyara_utils.preference.labelled_pairs import known_pairs, read_labelled
from kyara_utils.preference.preference_rows import form_pairs, mix, rlaif_preferences, spin_preferences
from kyara_utils.preference.sppo import sppo_preferences

__all__ = [
    "LlmJudge", "Pair", "Panel", "Verdict", "answer_all", "answer_prompts", "form_pairs", "judge_pairs", "judge_rows",
    "judge_summary", "known_pairs", "mix", "model_wins", "open_panel", "pair_lines", "ranked_preferences",
    "read_labelled", "report_lines", "rlaif_preferences", "spin_preferences", "sppo_preferences", "students",
    "trust_line", "try_judge", "try_panel",
]  # fmt: skip
