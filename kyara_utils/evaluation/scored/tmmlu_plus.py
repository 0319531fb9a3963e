"""TMMLU+: Taiwanese examinations in 66 subjects of four groups."""

from kyara_utils.evaluation.registry import register
from kyara_utils.evaluation.scored.letter_exam import LetterExam


@register
class TmmluPlus(LetterExam):
    """Kyara's card prints the mean of the four groups."""

    name = "tmmlu_plus"
    title = "TMMLU+"
    dataset = "ikala/tmmluplus"
    config = "*"
    licence = "MIT"
    golden = "tmmluplus"
