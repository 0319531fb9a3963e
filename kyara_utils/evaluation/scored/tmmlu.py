"""TMMLU: 3,343 questions of Taiwanese examinations in 53 subjects."""

from kyara_utils.evaluation.registry import register
from kyara_utils.evaluation.scored.letter_exam import LetterExam


@register
class Tmmlu(LetterExam):
    """Beside its questions lie models' responses; it is on no Hub. Kyara's card does not print it."""

    name = "tmmlu"
    title = "TMMLU (53 subjects, macro average)"
    licence = "Apache-2.0"
    n = 3343
    files = "questions"
    golden = "tmmlu"
