"""Where the drafts of a synthesis ended: how many of each kind passed each stage, and by which rule the rest ended."""

import json

from kyara_utils.runs.funnel import funnel_of_stages
from kyara_utils.synthesis.drafts import Row

STAGES = ("question", "answer", "checks")  # at which a draft can end, in order


def funnel_rows(asked: dict[str, int], rejects: list[Row]) -> list[Row]:
    """Return {stage, source, rows_in, rows_out}, stage by stage; `asked` is the number of drafts begun, by kind."""
    return funnel_of_stages(asked, STAGES, rejects).rows()


def rule_rows(rejects: list[Row]) -> list[Row]:
    """Return {stage, source, rule, rows}: what each rule removed, stage by stage, most first."""
    kinds = {json.loads(row["row"])["kind"]: 0 for row in rejects}
    return funnel_of_stages(kinds, STAGES, rejects).rules()
