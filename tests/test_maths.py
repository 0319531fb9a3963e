# ruff: noqa: E501  (a problem and its solution on one line each)
"""Persona maths without a model: what counts as a problem, what a solution must prove, and how solutions are chosen.

The two tables hold problems with solutions as a strong model writes them, to keep and to reject: rules fitted to a
small base model kept none of the first kind.
"""

import json

import pytest
from scripted import Scripted, text

from kyara_utils.synthesis.maths import persona
from kyara_utils.synthesis.maths.rules import REFUTED, UNVERIFIED, VERIFIED, check_solution, problem_rule
from kyara_utils.synthesis.styles import STYLES

GOOD = [
    ("小華有一條3公尺20公分的緞帶，剪成4段一樣長的，每段是幾公分？", "3 公尺 20 公分 = 320 公分\n320 ÷ 4 = 80（公分）\n**答案**：80 公分"),
    ("等差數列 1, 2, 3, …, 100 的和是多少？", "利用公式 1 + 2 + 3 + … + 100 = 100 × (100 + 1) ÷ 2 = 5050。\n\n**【答案】5050**"),
    ("一批布料 86 公尺，每套制服需 3 公尺，最多可做幾套？剩下幾公尺？", "86 ÷ 3 = 28 … 2\n所以可做 28 套，剩 2 公尺。\n答案：28 套，剩下 2 公尺"),
    ("一家咖啡店每杯拿鐵售價120元，成本是售價的35%。某天賣出48杯，請問這天拿鐵的毛利是多少元？",
     "每杯成本：120 × 35% = 42（元）。\n每杯毛利：120 − 42 = 78（元）。\n48杯的毛利：78 × 48 = 3,744（元）。\n答案：3,744元"),
    ("農夫有一塊長方形菜園，長24公尺、寬15公尺，其中的 2/5 種高麗菜，其餘種番茄。番茄的面積是多少平方公尺？",
     "菜園面積：24×15=360（平方公尺）\n高麗菜：$360 \\times \\frac{2}{5} = 144$（平方公尺）\n番茄：360−144=216（平方公尺）\n答案：216平方公尺"),
    ("小美騎YouBike從家裡到捷運站，時速15公里，騎了24分鐘。請問她家到捷運站有幾公里？",
     "先換算時間：24 ÷ 60 = 0.4（小時）。\n距離＝速率×時間，所以 15 × 0.4 = 6（公里）。\n答案：6公里"),
    ("書店週年慶全面打八折，會員結帳再折50元。王老師是會員，買了三本原價分別是320元、450元和280元的書，他要付多少錢？",
     "原價總和是 320 + 450 + 280 = 1,050 元。打八折後是 1050 × 0.8 = 840 元，再折 50 元，所以 840 − 50 = 790 元。\n\n**答案：790元**"),
    ("工程師把一個檔案從甲伺服器傳到乙伺服器，檔案大小1.2GB，傳輸速度每秒25MB（1GB以1000MB計），需要多少秒？",
     "檔案大小換成MB：1.2×1000=1200（MB）。需要的時間：1200÷25=48（秒）。\n答案：48秒"),
    ("某班有36位學生，男生與女生的人數比是5:4。請問女生有多少人？",
     "總份數：5+4=9（份）。每一份：36÷9=4（人）。女生：4×4=16（人）。\n答案：16人"),
    ("護理師要把500毫升的點滴在4小時內輸完，點滴每毫升有15滴，平均每分鐘要滴幾滴？",
     "總滴數：500×15=7500（滴）。4小時換算成分鐘：4×60=240（分鐘）。每分鐘：7500÷240=31.25（滴）。\n答案：31.25滴"),
    ("陳先生把20萬元存入銀行，年利率1.5%，以單利計算，存3年後可以領回的本利和是多少元？",
     "一年的利息：200,000×1.5%=3,000（元）\n三年的利息：3,000×3=9,000（元）\n本利和：200,000+9,000=209,000（元）\n答案：209,000元"),
    ("司機早上8:40從台中出發，車程2小時35分鐘，中途休息20分鐘，請問他幾點幾分抵達？",
     "行車和休息共 2小時35分鐘＋20分鐘＝2小時55分鐘。8:40 + 2小時55分 = 11:35。\n答案：11:35"),
    ("一個圓柱形水桶的底面半徑是20公分，高50公分，圓周率以3.14計算，水桶的容積是多少公升？",
     "底面積：$3.14 \\times 20^2 = 1256$（平方公分）。\n容積：1256×50=62,800（立方公分）。1公升=1000立方公分，62,800÷1000=62.8（公升）。\n答案：62.8公升"),
    ("烘焙師傅做一批餅乾，麵粉、糖、奶油的重量比是 6:2:3，已知麵粉用了 900 公克，請問奶油要用幾公克？",
     "每一份是 900 ÷ 6 = 150 公克，奶油 150 × 3 = 450 公克。所以答案是 $\\boxed{450}$ 公克。"),
    ("小明三次數學考試的分數是82分、90分和77分，他希望四次平均達到85分，第四次至少要考幾分？",
     "四次總分需要 85×4=340（分）。前三次總分是 82+90+77=249（分）。第四次至少要 340−249=91（分）。\n答：91分"),
    ("工廠每小時生產250個零件，不良率是2%。某訂單需要4,900個良品，至少要生產幾小時？",
     "每小時的良品：250×(1−2%)=245（個）。需要的時間：4,900÷245=20（小時）。\n答案：20小時"),
    ("有一條長90公尺的步道，從頭到尾每隔6公尺種一棵樹，兩端都要種，一共需要幾棵樹？",
     "間隔數：90÷6=15（個）。兩端都種，棵數比間隔多1：15+1=16（棵）。\n答案：16棵"),
    ("一件外套的成本是800元，店家加五成作為定價，後來以定價的九折賣出，請問賺了多少元？",
     "定價：800×1.5=1200元；售價：1200×0.9=1080元；利潤：1080−800=280元。\n答案：280元"),
    ("旅行社安排 137 人搭遊覽車，每輛最多坐 42 人，至少需要幾輛遊覽車？",
     "137÷42=3餘11，剩下的11人還需要1輛，所以要 3+1=4 輛。\n答案：4輛"),
    ("媽媽買了2又1/2公斤的豬肉，每公斤260元，又買了0.6公斤的蝦，每公斤450元，總共花了多少錢？",
     "豬肉：$2\\frac{1}{2} \\times 260 = 650$ 元。蝦：0.6×450=270 元。總共：650+270=920 元。\n答案：920 元"),
    ("某城市去年的用電量是1,250萬度，今年比去年減少了4%。今年的用電量是多少萬度？",
     "減少的量：1,250×4%=50（萬度）。今年：1,250−50=1,200（萬度）。\n答案：1,200萬度"),
    ("甲、乙兩人合力粉刷一間教室，甲單獨做需要6小時，乙單獨做需要3小時，兩人一起做需要幾小時？",
     "甲每小時完成 1/6，乙每小時完成 1/3。合作每小時完成 1/6+1/3=1/2。需要 1÷1/2=2 小時。\n答案：2小時"),
    ("圖書館有一批書，第一天借出總數的1/4，第二天借出90本，還剩下210本。請問這批書原來有幾本？",
     "第二天借出的和剩下的共 90+210=300 本，是總數的 3/4。總數：300÷(3/4)=400 本。\n答案：400本"),
    ("攝影師買了一台相機，分12期付款，每期付2,350元，另外頭期款付了5,000元，總共付了多少元？",
     "#### 步驟一\n分期的總額為 $2350 \\times 12 = 28200$ 元。\n#### 步驟二\n加上頭期款：$28200 + 5000 = 33200$ 元。\n\n答案：33,200 元"),
    ("一輛電動機車充滿電可以跑85公里，目前電量剩下40%，小華還要跑30公里，電量足夠嗎？請計算剩下的電可以跑幾公里。",
     "剩下的電可以跑 85×40%=34（公里）。34>30，所以足夠。\n答案：34公里"),
]  # fmt: skip
BAD = [
    ("一家咖啡店每杯拿鐵售價120元，某天賣出48杯，收入是多少元？", "120×48=5,670（元）。\n答案：5,670元", "wrong_calculation"),
    ("小美的時速是15公里，騎了24分鐘，她騎了幾公里？", "24÷60=0.4小時，15×0.4=6公里。\n答案：60公里", "wrong_answer"),
    ("書店打八折，原價1,050元的書要付多少元？", "1,050×0.8=800元。答案：800元", "wrong_calculation"),
    ("水桶半徑20公分，高50公分，圓周率以3.14計，容積是多少公升？", "3.14×20²=1256，1256×50=6280。答案：6.28公升", "wrong_calculation"),
    ("男女人數比是5:4，全班36人，女生有多少人？", "36÷(5+4)=4，4×4=18。答案：18人", "wrong_calculation"),
    ("每分鐘0.5公升，4分鐘流出多少公升？", "0.5×4=20公升。答案：20公升", "wrong_calculation"),
    ("每箱1,200元，3箱多少元？", "1,200×3=600元。答案：600元", "wrong_calculation"),
    ("甲有10元，用掉4元，剩下的變成兩倍再加3元，共幾元？", "(10-4)×2+3=5元。答案：5元", "wrong_calculation"),
    ("司機8:40出發，車程2小時35分鐘，幾點幾分抵達？", "8:40 + 2小時35分 = 10:75。答案：10:75", "wrong_calculation"),
    ("陳先生存20萬元，年利率1.5%，一年的利息是多少元？", "$200000 \\times \\frac{15}{100} = 3000$。答案：3000元", "wrong_calculation"),
    ("137人搭車，每輛坐42人，至少需要幾輛？", "137÷42=3餘12，所以 3+1=4。答案：4輛", "wrong_calculation"),
    ("三次分數是82分、90分和77分，平均是多少分？", "82+90+77=239，239÷3≈79.7。答案：79.7分", "wrong_calculation"),
    ("原價800元加五成，再打九折，售價是多少元？", "800×1.5=1200元，1200×0.9=1080元。\n答案：1180元", "wrong_answer"),
    ("工廠每小時生產250個，良率98%，每小時良品有幾個？", "250×98%=245個。我覺得大概是這樣。", "no_answer"),
    ("圖書館借出1/4後剩300本，原有幾本？", "300÷(3/4)=400本。答案是400本嗎？", "no_answer"),
    ("步道長90公尺，每隔6公尺種一棵樹，兩端都種，共幾棵？", "90÷6=16棵。答案：16棵", "wrong_calculation"),
]  # fmt: skip
NO_PROBLEM = [
    ("咖啡店每杯拿鐵120元，每天賣出48杯，生意很好。", "not_a_question"),
    ("咖啡店的老闆今天心情如何", "not_a_question"),
    ("咖啡店賣出很多杯拿鐵，請問一共賣了多少元？", "too_few_numbers"),
    ("咖啡店每杯120元，賣出48杯，一共多少元？\n\n解答：120×48=5760元", "holds_its_solution"),
    ("咖啡店每杯120元，賣出48杯，一共多少元？答案是5760元。", "holds_its_solution"),
    ("這杯120元和那杯48元的咖啡好喝？", "asks_no_quantity"),
    ("咖啡店每杯120元，賣出48杯，一共多少元？" * 40, "too_long"),
    ("一共多少元？咖啡店每杯120元，賣出48杯，大家都很開心。" + "後來老闆又說了很長的一段故事，" * 20, "not_a_question"),
]


@pytest.mark.parametrize(("problem", "solution"), GOOD)
def test_what_a_strong_model_writes_is_kept(problem, solution):
    assert problem_rule(problem) == ""
    check = check_solution(problem, solution)
    assert check.verdict in (VERIFIED, UNVERIFIED), check


def test_most_of_it_is_even_verified():
    verdicts = [check_solution(*pair).verdict for pair in GOOD]
    assert verdicts.count(VERIFIED) >= 0.85 * len(GOOD), [
        p[0] for p, v in zip(GOOD, verdicts, strict=True) if v != VERIFIED
    ]


@pytest.mark.parametrize(("problem", "solution", "rule"), BAD)
def test_a_wrong_sum_or_a_missing_answer_is_refuted(problem, solution, rule):
    check = check_solution(problem, solution)
    assert (check.verdict, check.rule) == (REFUTED, rule)


@pytest.mark.parametrize(("text", "rule"), NO_PROBLEM)
def test_what_is_no_problem_is_rejected(text, rule):
    assert problem_rule(text) == rule


@pytest.mark.parametrize(
    ("problem", "solution", "rule"),
    [
        ("有48條魚，賣掉29條，剩幾條？", "48-29=19條。答案是19。", ""),
        ("有48條魚，賣掉29條，剩幾條？", "48-29=21條。答案是21。", "wrong_calculation"),
        ("有48條魚，賣掉29條，剩幾條？", "48-29=19條。答案是20。", "wrong_answer"),
        ("有48條魚，賣掉29條，剩幾條？", "賣掉後剩19條。答案是19。", "no_equation"),
        ("有48條魚，賣掉29條，剩幾條？", "60-29=31條。答案是31。", "foreign_numbers"),
        ("6本，每本35張，又買4張，共幾張？", "6×35=210，210+4=214張。答案是214張。", ""),
        ("攤商收了100元，每份10元，賣了幾份？", "10×10=100份。答案是100。", "foreign_numbers"),
    ],
)
def test_a_base_models_sums_must_use_the_problems_numbers(problem, solution, rule):
    """A wrong sum with a confident last line is the commonest fault of small models, numbers at random the next."""
    check = check_solution(problem, solution, "stated")
    assert check.rule == rule and (check.verdict == VERIFIED) == (not rule)


@pytest.mark.parametrize(
    ("problem", "solution", "rule"),
    [
        ("每天輪到20台車，一個星期輪到幾台？", "20×7=140台。答案：140台", ""),
        ("每天輪到20台車，另外還有10台，一共輪到幾台？", "20×20=400台。答案：400台", "foreign_numbers"),
        ("一塊邊長5公尺的正方形菜園，面積是幾平方公尺？", "5×5=25平方公尺。答案：25平方公尺", "foreign_numbers"),
    ],
)
def test_a_small_chat_models_sums_use_a_number_as_often_as_it_stands(problem, solution, rule):
    """The price is seen in the last line; a strong model's square is kept."""
    assert check_solution(problem, solution, "once").rule == rule
    assert check_solution("一塊邊長5公尺的正方形菜園，面積是幾平方公尺？", "5×5=25。答案：25").verdict == VERIFIED


SOLVED = {
    "甲": ["6×35=210張。答案是210。"] * 3,
    "乙": ["6×35=210。答案是210。", "6+35=41。答案是41。", "35-6=29。答案是29。"],
    "丙": ["不知道"] * 3,
    "丁": ["6×35=210。答案：210張", "一共是 6 * 35 = 210。答案：210", "6×35=211。答案：211"],
    "戊": ["一共有210張。答案：210張", "一共有210張。答案：210張", "答案：209張"],
    "己": ["一共有210張。答案：210張", "\\boxed{210}", "#### 210"],
}


def solve(names: str, **fields):
    def answer(request):
        prompt = request.messages[-1]["content"]
        if request.top_logprobs:
            return text("對", logprobs=[{"對": -0.1, "錯": -2.0}])
        return text(next(v for k, v in SOLVED.items() if f"{k}題" in prompt)[request.sample])

    drafts = [{"id": k, "persona": k, "problem": f"{k}題6本35張共幾張？", "calls": []} for k in names]
    rows, rejects = persona.solve_problems(Scripted(answer, **fields), drafts, "m")
    assert len(rows) + len(rejects) == len(names), "rows in = rows out + rejects"
    return rows, {row["id"]: row["rule"] for row in rejects}


def test_solving_keeps_agreement_and_rejects_by_rule():
    rows, rules = solve("甲乙丙", dialect="completion")
    assert [json.loads(row["meta"])["persona"] for row in rows] == ["甲"]
    assert rules == {"乙": "disagreement", "丙": "no_answer"}
    assert json.loads(rows[0]["meta"])["verdict_log_odds"] == pytest.approx(1.9)


def test_two_of_three_suffice_for_what_is_verified_and_all_three_for_what_is_not():
    rows, rules = solve("丁戊己", dialect="chat", style="full")
    about = {json.loads(row["meta"])["persona"]: json.loads(row["meta"]) for row in rows}
    assert set(about) == {"丁", "己"} and rules == {"戊": "disagreement"}
    assert about["丁"]["check"] == VERIFIED and about["己"]["check"] == UNVERIFIED
    assert about["己"]["unverified_because"] == "no_equation" and about["丁"]["votes"] == {"210張": 2, "211": 1}


@pytest.mark.parametrize(("style", "longest"), [("completion", 64), ("brief", 200), ("full", 800)])
def test_prompts_and_limits_follow_the_models_style(style, longest):
    problem = "每箱24瓶，5箱共幾瓶？" if style == "completion" else "**題目：** 每箱24瓶水，5箱一共有幾瓶水？"
    client = Scripted(lambda request: text(problem), "chat", style=style)
    drafts, rejects = persona.write_problems(client, ["司機"], seed=3)
    assert not rejects and drafts[0]["problem"].startswith("每箱24瓶") and STYLES[style].problem[1] == longest
    assert client.asked[0].max_tokens == STYLES[style].tasks["problem"].max_tokens
    examples = sum(message["role"] == "assistant" for message in client.asked[0].messages)
    assert (examples == 0) == (style == "full"), "a strong model is pulled down by worked examples"


def test_a_wrong_form_is_asked_for_again_and_then_rejected():
    client = Scripted(lambda request: text("每箱24瓶，真多。"), "chat", style="full")
    drafts, rejects = persona.write_problems(
        client, ["司機"], attempts=3
    )  # the last two at the same temperature, as other samples
    assert not drafts and [row["rule"] for row in rejects] == ["not_a_question"] and len(client.asked) == 3
    assert len(json.loads(rejects[0]["row"])["calls"]) == 3
