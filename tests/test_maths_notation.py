# ruff: noqa: E501  (a problem and its solution on one line each)
"""Sums in a text: read whole, computed exactly, and called wrong only where they are.

A regular expression without token boundaries let 0.5×4=20 pass as 5×4=20 and lost every sum with a unit, a bracket,
a per cent or LaTeX in it, so that a strong model's solutions were thrown away and wrong ones kept.
"""

import time
from fractions import Fraction

import pytest

from kyara_utils.synthesis.maths.answers import final_answer
from kyara_utils.synthesis.maths.equations import equations
from kyara_utils.synthesis.maths.rationals import Unreadable, value_of
from kyara_utils.synthesis.maths.tokens import tokenize

EQUATIONS = {
    "right": [
        "48個－29個＝19個", "２０＋５＝２５", "賣掉29條，還剩下48-29=19條。答案是19。", "每支40元×25支=1000元",
        r"$\frac{3}{4}\times 8 = 6$", r"\[ 120 \times \frac{1}{2} = 60 \]", r"2\frac{1}{2}+\frac{1}{2}=3",
        r"\boxed{48-29=19}", r"\begin{aligned} x &= 3 \times 4 \\ &= 12 \end{aligned}", "2又1/2+1/2=3", "1/3+1/6=1/2",
        "20%×50=10", "50×(1+20%)=60", "500－500×15％＝425", "30÷200=15%", "30÷200×100=15%", "110% × 50 = 55",
        "1.5小時=90分鐘", "3公斤+500公克=3500公克", "120公分+1公尺=2.2公尺", "3打=36個", "3千克=3000克",
        "17÷5=3餘2", "17÷5=3...2", "10÷3≈3.33", "10÷3=3.33", "12345≈12000", "66.7% ≈ 2/3", "22÷7≈3.14", "7-(-2)=9", "[(15+25)×2-10]÷7=10", "1:2=3:6", "500毫升×4=2000毫升=2公升", "0.1+0.2=0.3", "5-3-1=1",
        "8:30+45分鐘=9:15", "8點30分+45分鐘=9點15分", "9:15-8:30=45分鐘", "12:8=3:2", "步驟1:48-29=19",
        "- 48-29=19", "1. 48-29=19", "面積=長×寬=5×3=15平方公分", "3萬×2=6萬", "3千元×2=6千元", "2萬5千-5千=2萬",
        "60 km/h × 2 h = 120 km", "80公里/小時×3小時=240公里", "NT$1,200 × 3 = NT$3,600", "3²+4²=25", "√16=4", "2^10=1024",
        "48-29=19(條)", "48÷6=8（組）", "(5+3)×2=16", "3(4+5)=27", "(1,000,000+1)×2=2,000,002", "25x40=1000", "5*3=15",
        "**48 − 29 = 19**", "９折：500×0.9＝450", "3 公尺 20 公分 × 2 = 640 公分", "1 200 × 3 = 3 600", "2⁵=32", "5.0×10⁻³×2000=10",
        "½ × 40 = 20", "2½×4=10", "¥300×2=¥600", "€12.5×4=€50", "5\u2060×\u20606=30", "時間 = 距離 ÷ 速率\n= 240 ÷ 80\n= 3（小時）", "9:00–17:30 = 8 小時 30 分鐘",
    ],
    "wrong": [
        "0.5×4=20", "1,200×3=600", "(10-4)×2+3=5", "5+3×2=16", "100-(20+30)=60", "10÷3=3", "10÷3=3.5", "17÷5=3餘1",
        "１，２００＋３００＝１，４００", r"\frac{1}{2}+\frac{1}{3}=\frac{2}{5}", "30%×200=600", "8:30+45分鐘=9:05",
        "12:8=4:3", "22÷7≈3.15", "1/2+1/4=2/6", "1公里=100公尺", "2.5小時=160分鐘", "3公斤+500公克=503公克×2", "-5+3=2", "2^10=1000",
        "3 公尺 20 公分 = 3200 公分", "2⁵=30", "½ × 40 = 10", "1 200 × 3 = 6 000", "1 公尺 20 公分 = 102 公分",
    ],
    "unverified": [
        "單價×5=20", "2x+3=7", "A×3=9", "原價-50=150", "5÷0=0", "9^9^9=1", "剩下的×2=10", "3個=6元", "√2=1.4", "□-8=15", "____-3=7", "? - 5 = 7", "1+2+…+100=5050", "1 + 3 + 5 + ⋯ + 19 = 100",
    ],
    "": ["x=5", "答案=40", "a=b", "一共是 1，200 元", "第3題、第4題", "10:30 出發，12:45 到"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "verdict"), [(text, verdict) for verdict, texts in EQUATIONS.items() for text in texts]
)
def test_an_equation_is_read_whole_and_computed(text, verdict):
    assert {equation.verdict for equation in equations(text)} == ({verdict} if verdict else set())


def test_several_equations_in_a_line_are_told_apart():
    assert [e.verdict for e in equations("6×35=210張 210+4=215")] == ["right", "wrong"]
    assert [e.text for e in equations("5+5=10=2×5")] == ["5+5=10", "10=2×5"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("48-29", 19),
        ("12+3×4", 24),
        ("7/2", Fraction(7, 2)),
        ("2*3-1", 5),
        ("2+6÷3-1", 3),
        ("2^(1+2)", 8),
        ("-(3-5)", 2),
    ],
)
def test_values_are_exact(text, value):
    assert value_of(tokenize(text)) == value


@pytest.mark.parametrize(
    "text", ["5÷0", "(3", "3)", "2 3", "", "9^99999", "1" * 40, "__import__", "√2", "3++", "(" * 99]
)
def test_what_is_no_sum_is_unreadable(text):
    """Model output is data: the calculator knows numbers and signs, nothing else."""
    with pytest.raises(Unreadable):
        value_of(tokenize(text))


@pytest.mark.parametrize(
    "unit", ["(", "9", "9^", "=", "1=1+", "√(", "9×", r"\frac{", r"\boxed{", "a", "餘", "1:1=", "1,000,"]
)
def test_hostile_text_costs_little_and_never_raises(unit):
    began = time.process_time()
    equations(unit * 20_000)
    final_answer("答案是" + unit * 20_000)
    assert time.process_time() - began < 5, "bounded work, whatever a model writes"


ANSWERS = [
    ("先算3+4=7。答案是7。", [7]), ("所以答案是 25 元，也就是每人 5 元。", [25]), ("**答案：** $\\frac{3}{4}$ 杯", [Fraction(3, 4)]),
    (r"因此 \boxed{1,200} 元", [1200]), ("#### 42", [42]), ("答：小明有 12 枚，小華有 18 枚。", [12, 18]), ("答案：x = 3, y = 4", [3, 4]),
    ("答案是25%", [Fraction(1, 4)]), ("答：48-29=19 條", [19]), ("最後答案為：**1,234.5 元**", [Fraction("1234.5")]),
    ("答案是 -3 度", [-3]), ("答案：\n\n25", [25]), ("答案是3萬5千元", [35000]), ("答案是 3又1/2 公斤。", [Fraction(7, 2)]),
    ("先得 \\boxed{3}，更正為 \\boxed{4}", [4]), ("最終答案：\\(\\frac{2}{3}\\)", [Fraction(2, 3)]), ("### 答案\n\n25 元", [25]),
    ("Answer: 42", [42]), ("答案：90分鐘（1.5小時）", [90]), ("故答案是 3 小時 20 分鐘", [200]),
    ("**答案**：974 元", [974]), ("【答案】36 平方公尺", [36]), ("**答**：共 16 顆。", [16]), ("答案＝48", [48]), ("The answer is 42.", [42]), ("答案 → 24", [24]),
    ("答案：\n- 拿鐵：12 杯\n- 美式：8 杯", [12, 8]), ("答案：$x=3$ 或 $x=-2$", [3, -2]), ("答案：5π 平方公分", []),
]  # fmt: skip


@pytest.mark.parametrize(("text", "values"), ANSWERS)
def test_answers_are_read_from_any_usual_form(text, values):
    assert list(final_answer(text).numbers) == values


@pytest.mark.parametrize("text", ["答案是7嗎？不，應該再加一些", "一共需要 5 箱。", "", "答案是", "不知道"])
def test_no_answer_is_none(text):
    assert final_answer(text) is None


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("答案是0.5", "答案：1/2", True), ("答案是50%", "答案：0.5", True), ("答案是1.5小時", "答案：90分鐘", True),
        ("答案是3.33公里", "答案：10/3公里", True), ("答案是3:2", "答案：6:4", True), ("答案是9:15", "答案：9點15分", True),
        ("答案是25", "答案：25%", False), ("答案是3:2", "答案：2:3", False), ("答案是足夠", "答案：不足夠", False),
        ("答案是3.3公里", "答案：3.6公里", False), ("答案是12和18", "答案：12", False), ("答案是足夠。", "答案：足夠", True),
    ],
)  # fmt: skip
def test_answers_are_compared_by_value(one, two, same):
    assert final_answer(one).same(final_answer(two)) is same
