"""What makes a question fit to stand alone in a training row: it asks something, and it names what it asks about.

A question that points at its document (本文, 上述, 圖1, 該公司, 這種植物) cannot be answered by who has not seen it.
The same characters occur in names (本草綱目, 本田, 該隱) and in words (日本文化, 我該如何), and a scenario may
introduce what it then points at (某公司…。該公司…), so each pattern says where it does not count.
"""

import re

from kyara_utils.synthesis.checks import subject_of
from kyara_utils.synthesis.overlap import by_length, overlap
from kyara_utils.synthesis.styles import FULL, Style, limits

SHORT, LONG = 40, 160  # characters of a short and of a long question

_REQUEST = re.compile(
    r"請|幫我|(?:\A|[，。；！？,;]\s*|試著?|並|麻煩)(?:詳細|簡要|簡單|逐步|分別|具體)?"
    r"(?:求|解出|解方程|比較|說明|解釋|描述|列出|列舉|分析|介紹|整理|計算|設計|撰寫|寫出|寫一|評估|探討|闡述"
    r"|歸納|總結|摘要|推導|證明|討論"
    r"|舉例|指出|提供|製作|規劃|建議|翻譯|簡述|概述|試)|(?:翻譯|改寫|轉換)[成為]"
    r"|(?:\A|[.;!?,]\s+|\b(?:please|and|then|to)\s+)(?:explain|describe|compare|list|analy[sz]e|discuss|summari[sz]e"
    r"|outline|calculate|design|write|evaluate|give|identify|contrast|propose|derive|show|provide|tell|help|trace"
    r"|illustrate|name|define|create|draft|estimate|suggest|plan)\b|\bplease\b",
    re.I,
)
_QUESTION = re.compile(
    r"[什甚]麼|為何|何[時地人處者謂種以在]|如何|怎|誰|哪|幾|多[少高大長遠久深重快寬厚遲早]|是否|有無|能否|可否"
    r"|會否|嗎|呢|吧？|孰"
    r"|(.)[不沒]\1|有沒有|差在|差多少|何"
    r"|\b(?:what|which|who|whom|whose|when|where|why|how|is|are|was|were|do|does|did|can|could|will|would|should|has"
    r"|have|had|may|might|must)\b",
    re.I,
)
_SOLVED = re.compile(r"(?:\A|\n|[？?]\s*)(?:參考)?(?:答案|解答|回答|答|Answer)\s*[:：]|\A\s*\{")  # no question alone
_WORDS = {"zh-Hant": re.compile(r"[\u4e00-\u9fff]"), "en": re.compile(r"[A-Za-z]{2}")}
_CUT = re.compile(
    r"(?:[，、：；,;:]|[的和與及或在於對把將從向跟而但]|因為|以及|或者?|例如|\b(?:and|or|the|of|to))\s*\Z", re.I
)
_NAMES = re.compile(
    r"《[^》\n]*》|〈[^〉\n]*〉|「[^」\n]*」|『[^』\n]*』|“[^”\n]*”|\"[^\"\n]*\"|`[^`\n]*`|該隱|該亞|該撒|此地無銀|此起彼|這般"
)
_CLAUSE = re.compile(r"[，。；！？：!?;:\n]|,\s|\.\s")
_EMPTY = re.compile(
    r"請問|請|根據|依據|依照|按照|關於|對於|針對|說明|解釋|描述|比較|分析|列出|介紹|整理|詳細|簡述|何謂"
    r"|研究結果|結果|上面|內容"
    r"|為什麼|為何|什麼|怎麼樣?|怎樣|如何|哪[一些個位座種年裡]?|多少|幾|是否|有沒有|可以|能夠?|應該?|會|被|把"
    r"|在|對|從|由|讓|使|給"
    r"|\b(?:what|which|who|when|where|why|how|is|are|was|were|do|does|did|can|could|according|to|in|on|of|for|the|about"
    r"|please|explain|describe)\b|[^\w□]",
    re.I,
)

# What points at the text itself: never right in a question of its own. Words for the text, its parts and its maker:
_DOCUMENT = (
    r"(?:文件|文章|資料|段落|文本|內文|內容|文獻|教材|敘述|短文|選文|文字|報導|研究|報告|資訊|訊息|線索|對話|說明"
    r"|程式碼|例子)"
)
_TEXT = [
    re.compile(pattern, re.I)
    for pattern in (
        # 本文, 本研究; not 日本文化, 根本, 基本法, 本文化
        r"(?<![日基根資成樣版標課劇腳譯抄繪讀副孤善古原範底刻印珍宋])本(?:文|篇|章|節|段|書[中的提]|圖|表|題"
        r"|報告|研究|論文|文件|條目|教材|單元"
        r"|資料|手冊|條文|案|計畫|專案|方案|法)(?!學|化|明|字|人|獻|山|縣|國)",
        # 文中, 上文; not 中文中, 論文中, 上文化
        r"(?<![中英日法德俄韓古散作課經條公梵譯國語外白華漢詩議雜祭碑銘言論])文中(?!子)"
        r"|(?:上|前|下|內|此|該|這)文(?!化|學|明|字|人|物|獻|本|書|具|山|風|件夾|章|藝復興)|[原全]文(?=[中裡內所提指，])",
        # 文件指出, 文章中作者, 根據以上資料, 上述文件, 這段文字
        rf"(?<!有){_DOCUMENT}(?:中|裡|內|上)?(?:所)?(?:提到|提及|指出|描述|列出|記載|的?作者|的?主旨|的?重點|的?論點|的?大意)",
        rf"(?:根據|依據|依照|按照|參考|從)(?:這[篇份段則些]?|該|此|[上前下]述|以[上下]|所?提供的|給定的)?(?:{_DOCUMENT}|表格|圖[表片]|附件|題目)"
        r"(?:[，,的中裡內]|\Z|來|回答|判斷|推論|所述|可知|提到)",
        rf"(?:[上前下]述|上列|[上前]面|以[上下]|前文|下列|所?提供)的?(?:{_DOCUMENT}|描述|提[到及]|圖|表|公式|方程|所述|討論|介紹|問題)"
        r"|(?<![歲年月日人元次度%\d])以上(?:步驟|方法|選項|各[點項])|[前上]一?題|\A請?繼續",
        rf"(?<!□)[這此那](?:篇|段|則|份){_DOCUMENT}|(?:文章|本書|原文)作者|(?:參考)?文獻\s*[\[［【]\s*\d|剛[才剛](?:提|說|講|介紹)",
        # 文章中的…, 影片中介紹, 故事的主角, 受試者 as an opening; 以下哪一項 without what to choose from
        rf"\A[在從]?(?:{_DOCUMENT}|影片|故事|課文|題目)[中裡](?:[的，所]|介紹|提|顯示|列|描述)|\A(?:受試者|受訪者|筆者|主角|故事的?主角)",
        r"\A研究(?:人員|者|團隊)[^，。？]{0,6}了|\A(?:當時|接著|還有|除此之外|因此|所以)",
        r"(?:以下|下列)(?:的)?(?:哪|何者|選項)(?!.*(?:[(（]?[ABab][).、）]|①))",
        # 圖1, 表2, 上圖, 附圖; not 地圖一, 代表一
        r"(?<![地版插構意力附企試])[圖表](?:\s*\d|\s*[一二三四五六七八九十](?=[中裡內所的顯示，,？?]))|(?<![代發外手課電儀])表\s*\d",
        r"(?<![地以])[上下左右][圖表](?:[中裡內所的]|顯示)|(?:附圖|附表|附錄|插圖|圖片|圖表|表格)(?:[中裡內上](?!文)|\s*\d|所示|顯示)|如[上下左右]?[圖表](?:所示|[，,])|(?<![地版插構意力企試繪拼截藍])圖[中裡][的，所]",
        # 第四個方程, 公式(3), 第三章, 第2題; not 《論語》第三章
        r"第\s*[\d一二三四五六七八九十]+\s*(?:個|條|則|道|項)?\s*(?:方程式?|公式|算式|等式|不等式|圖|表格?|段落"
        r"|段文字|例題|範例"
        r"|定理|引理|註腳?|腳註|頁|個例子|題(?!型|目))|(?:方程式?|公式|式|定理)\s*[(（]\s*\d|(?:引理|定理|定義|推論|命題)\s*\d",
        r"(?<!□)(?<!□的)第\s*[\d一二三四五六七八九十]+\s*(?:[章節課](?![課節])|段(?=[的中裡主大，]))",
        # 作者認為…, 其主要原因…, 這是什麼 as an opening
        r"\A\s*作者|\A\s*其(?![中他實次餘])|\A\s*(?:這|那|此|以下)(?:是|些|兩|三|幾)?(?:者|個)?(?:之間|有|為|的)",
        r"\b(?:the|this|these|that|above|given|following|provided|present)\s+(?:document|passage|text|article|excerpt"
        r"|paragraph|section|chapter|figure|table|equation|authors?|material|source|report|study|paper)s?\b(?!\s+of\b)",
        r"\b(?:fig(?:ure)?|table|eq(?:uation)?)\.?\s*\(?\d|\b(?:mentioned|described|listed|shown) above\b"
        r"|\b(?:diagram|image|picture|graph|code|list) (?:above|below)\b|\bin the (?:diagram|image|picture)\b"
        r"|\babove[- ]mentioned\b|\bparagraph \d|\A(?:it|they|he|she|this|these|those|its|their)\b",
    )
]
# Verbs and adverbs after 該 as "ought to" (我該如何, 該不該).
_MODAL = (
    "如何怎不要用做去把由從是有會能被在選注意採吃喝說看算準先再避考遵具負為對向跟給以"
    "改換多少等停買賣帶穿住走付寫讀學教找問聯處檢留優保設安使進提建加減送放打投申往後"
)
# What points at something named before, if anything was: 該公司, 這種植物, 此方法, this plant.
_THING = re.compile(
    rf"(?<![應活本理早不就真都也才又我你他她們誰人者家時原更可最亦])該(?:[項種類國]?)(?P<a>(?![{_MODAL}])[\u4e00-\u9fff]{{1,4}})"
    r"|(?<![如因從由彼為在至就])[這那此](?:[一二兩三四五六七八九十幾]\s*)?(?:段|篇|份|則|本|個|種|些|類|項|位|座"
    r"|次|款|家|間|條|部|場|張|支|幅|隻|棵|名|首|套|齣"
    r"|起|件|幾個|幾種|兩個|兩種|三個|三種)(?!人都|時候|世界|世紀|問題)(?P<b>[\u4e00-\u9fff]{0,4})"
    r"|(?:\A"
    r"|(?<=[，。；：？！在對於與和據有讓使及明較析紹]))此(?![外時刻後前處次生起際即言間類項種])(?P<c>[\u4e00-\u9fff]{1,4})"
    r"|(?<![其吉利排])(?P<d>他們?|她們?|它們?|牠們?)(?![人國鄉日山處項律加汀者殺])"
    r"|(?:上述|前述|上開|前揭)(?P<e>[\u4e00-\u9fff]{0,4})"
    r"|\b(?:this|these|such)\s+(?P<f>(?!year|day|month|week|century|case\b)[a-z]+)"
    r"|\b(?P<g>it|they|he|she|its|their|his|her|them)\b",
    re.I,
)
GENERAL, STATED = 10, 4  # characters of earlier clauses, or sentences, that may introduce what is pointed at
_RELATION = frozenset("對在為與和跟被把從由給讓使於以關請明較析出紹問到是有的用將及或並若當如據麼過解養種做")
_SENTENCE = re.compile(r"[^。！？!?]*[。！？!?]")


def question_problem(text: str, language: str = "zh-Hant", style: Style = FULL) -> tuple[str, str]:
    """First rule that a question breaks by itself, with the finding; ("", "") when it is sound.

    not_a_question: of no sensible length, without words, neither a question nor a request, or cut off (for a base
    model: not one line that ends with a question mark); points_elsewhere: it points at its document, a figure, or a
    thing that it does not name.
    """
    low, high = limits(style.question, language)
    asks = _asks(text) and (not style.one_line or text.endswith(("？", "?")))
    words = _WORDS[language].search(text[:-1])
    if not (low <= len(text) <= high and words and asks) or _SOLVED.search(text) or _babble(text):
        return "not_a_question", text
    found = points_elsewhere(text)
    return ("points_elsewhere", f"{found}: {text}") if found else ("", "")


def _asks(text: str) -> bool:
    """A question with a word that asks, or a request; not cut off. 通車典禮？ is neither."""
    asked = ("？" in text or "?" in text) and _QUESTION.search(text)
    return bool(asked or _REQUEST.search(text)) and not _CUT.search(text)


def _babble(text: str) -> bool:
    """One character or word over and over."""
    return len(text) > 30 and len(set(text)) < len(text) / 12 + 3


def points_elsewhere(text: str) -> str:
    """What in a question points at something that the question does not hold; names and quotations do not count."""
    plain = _NAMES.sub(lambda found: "□" * len(found.group()), text)
    for found in (match for pattern in _TEXT for match in pattern.finditer(plain)):
        if not _data(plain, found):
            return found.group()
    return next((found.group() for found in _THING.finditer(plain) if not _introduced(plain, found)), "")


def _data(text: str, found: re.Match) -> bool:
    """以下資料：… may bring the material along, as exercises do."""
    return len(text) - found.end() > 40 and bool(re.match(r"[^。？]{0,12}[：:]", text[found.end() :]))


def _introduced(text: str, found: re.Match) -> bool:
    """Whether an earlier part of the question names what is pointed at."""
    before = text[: found.start()]
    name, head = found.lastgroup, found.group(found.lastgroup) if found.lastgroup else ""
    if name in ("d", "g"):  # a pronoun: anything of substance named before
        return len(_EMPTY.sub("", before)) >= (2 if name == "d" else 3)
    if not found.group().isascii() and _apposed(before):
        return True
    stated = [_EMPTY.sub("", clause) for clause in _CLAUSE.split(before)[:-1]]
    if head and any(head[:size] in part for part in stated for size in (2, 3, 4) if len(head) >= size):
        return True
    scale = 1 if re.search(r"[\u4e00-\u9fff]", before) else 3
    earlier = _EMPTY.sub("", "".join(_SENTENCE.findall(before)))  # a whole sentence may introduce more than a clause
    return len(earlier) >= STATED * scale or sum(map(len, stated)) >= GENERAL * scale


def _apposed(before: str) -> bool:
    """光合作用這個過程, 「□」這個典故, Python 這種語言: the name stands right before what points at it."""
    clause = _CLAUSE.split(before)[-1].strip()
    if clause.endswith("□") or re.search(r"[A-Za-z0-9]{2}\Z", clause):
        return True
    return len(clause) >= 2 and clause[-1] not in _RELATION and _EMPTY.sub("", clause) == clause


def off_topic(question: str, document: str, style: Style = FULL) -> str:
    """Too little of what the question speaks of, question words aside, stands in the document it is made from.

    The least share is the style's: a scenario brings words of its own, a base model's question should not.
    """
    share = overlap(subject_of(question), document)
    limit = by_length(len(question), (SHORT, LONG), style.topic)
    return "" if share >= limit else f"{share:.2f} of the question is in the document"
