"""Where OpenCC's table s2twp goes wrong: words it finds across the border of two, and technical words in plain prose.

Its phrases are matched from left to right without knowing words, so 少数组织 holds 数组 (陣列), and its vocabulary is
that of programmers, for whom 循环 is a loop, 进程 a process and 添加 a menu item. Each rule names the Simplified text,
as a regular expression, and what stands there in Taiwan; rules are tried in order, before the table.
"""

import re
from functools import lru_cache


def after(words: str, text: str) -> str:
    """Expression for a text that follows one of some words."""
    return f"(?:{'|'.join(f'(?<={word})' for word in words.split())}){text}"


def before(text: str, words: str) -> str:
    """Expression for a text that one of some words follows."""
    return f"{text}(?={'|'.join(words.split())})"


SOFTWARE = (
    "的?格式 的?协议 的?功能 的?平台 的?浏览器 操作系统 接口 设备 插件 硬件 软件 继承 多线程 并发 异步 [A-Za-z0-9]"
)
RULES: tuple[tuple[str, str], ...] = (
    # across the border of two words
    (r"数(?=组(?:织|成|合|建|装|团|长|员))", "數"),
    (r"(?<=[少多函参整系人分])数组(?=[织成合])", "數組"),
    (r"字(?=节(?:目|录|选|奏|约|省))", "字"),
    (r"[对對](?=象(?:棋|征|形|牙|群|鼻))", "對"),
    ("面对面", "面對面"),
    (r"干(?=了?[一这那满]?杯)", "乾"),
    ("历法", "曆法"),
    ("被发明了", "被發明了"),
    (r"被发(?!左衽|佯狂|文身|跣足)", "被發"),
    (r"这程(?=序列)", "這程"),
    (r"进程(?=序列)", "進程"),
    (r"主线(?=程序)", "主線"),
    (r"总线(?=索)", "總線"),
    (r"字段(?=落)", "字段"),
    (r"视频(?=[道率])", "視頻"),
    (r"音频(?=[道率])", "音頻"),
    (r"光(?=标[志准示])", "光"),
    (r"文件夹(?=[在杂])", "文件夾"),
    (r"服务器(?=[官材])", "服務器"),
    (r"存储(?=存)", "存儲"),
    (r"字符串(?=联)", "字符串"),
    (r"计算机(?=[会遇])", "計算機"),
    (r"博客(?=人)", "博客"),
    (r"面向对象", "物件導向"),
    # technical words that mean something else in plain prose
    (after("面向 类的 实例化", "对象"), "物件"),
    (before("对象", "类型 模型 实例 属性 数组 存储 引用 的方法"), "物件"),
    ("对象", "對象"),
    (before("循环", "语句 变量 体 条件 次数 遍历 结构"), "迴圈"),
    (after("for while 死", "循环"), "迴圈"),
    ("循环", "循環"),
    (after("历史 发展 改革 文明 和平 化", "进程"), "進程"),
    (after("司法 法律 诉讼 行政 立法 法定 审批 正当", "程序"), "程序"),
    (before("程序", "正义 法 上的"), "程序"),
    (before("支持", SOFTWARE), "支援"),
    ("支持", "支持"),
    (before("连接", "(?:到|至)?服务器 (?:到|至)?数据库 (?:到|至)?互联网 (?:到|至)?主机 超时 池"), "連線"),
    (after("网络 数据库", "连接"), "連線"),
    ("连接", "連接"),
    (after("软件", "发布"), "釋出"),
    (before("发布", "了?新?版本 了?软件"), "釋出"),
    ("发布", "發布"),
    (after("列车 火车 轨道 轨道上 行星 卫星 公交 地铁 机器 经济 绕太阳 绕地球", "运行"), "運行"),
    (before("设置", "了?机构 了?专门 分行 办事处 学校 院系 障碍 关卡"), "設置"),
    (after("数学 三角 二次 一次 指数 对数 概率密度 连续 周期", "函数"), "函數"),
    (before("函数", "图像 的导数 的极限 的图形 的值域 的定义域"), "函數"),
    (after("官方 政府 法律 重要 机密 外交 历史 签署 签署的", "文件"), "文件"),
    (before("文件", "精神 规定 签署"), "文件"),
    (after("体育 比赛 运动 竞赛 检查 奥运 收费 径赛 田径", "项目"), "項目"),
    (after("餐厅 餐馆 饭店 酒店 餐厅的", "菜单"), "菜單"),
    (after("售票 服务 银行 对外", "窗口"), "窗口"),
    ("添加剂", "添加劑"),
    (before("添加", "[了着]?[糖盐水] 防腐 香料 色素 营养"), "添加"),
    (after("发表 联合 严正 公开 外交部 发表了 共同", "声明"), "聲明"),
    (after("电影 戏剧 舞台 电视剧", "脚本"), "腳本"),
    (before("优化", "产业 经济 营商 资源 结构 环境"), "優化"),
    (before("调用", "军队 部队 物资 资金 人力 警力"), "調用"),
    (after("一 二 三 四 五 六 七 八 九 十 [0-9]", "进制"), "進位"),
    # other words of Taiwan
    *zip("家具 厘米 胡同 西红柿 三文鱼 公交车".split(), "家具 公分 胡同 番茄 鮭魚 公車".split(), strict=True),
)


@lru_cache(maxsize=1)
def pattern() -> re.Pattern[str]:
    """One expression with a group for each rule, so that `lastindex` tells which of them found a text."""
    return re.compile("|".join(f"({source})" for source, _ in RULES))


def targets(text: str) -> list[tuple[int, int, str]]:
    """Return (start, end, what stands there in Taiwan) of each place in a Simplified text that a rule knows."""
    return [(*found.span(), RULES[found.lastindex - 1][1]) for found in pattern().finditer(text)]
