"""Questions, retrieval-augmented answers, document prompts and persona maths: where training rows come from."""

from kyara_utils.synthesis.accounting import account, drafts_begun, metrics, one_of_each_rule, rule_rows
from kyara_utils.synthesis.cited import add_contexts, answer_cited, cited_conversations
from kyara_utils.synthesis.document_prompts import document_conversations
from kyara_utils.synthesis.drafts import excerpt
from kyara_utils.synthesis.evolve import evolve_questions
from kyara_utils.synthesis.faithfulness import check_faithfulness
from kyara_utils.synthesis.followups import add_rounds
from kyara_utils.synthesis.maths.persona import solve_problems, write_problems
from kyara_utils.synthesis.questions import questions_per_chunk, write_questions
from kyara_utils.synthesis.rag import answer_questions, rag_conversations
from kyara_utils.synthesis.retrieval import digest_documents, expand_queries, judge_relevance, retrieve
from kyara_utils.synthesis.sampling import choose_chunks
from kyara_utils.synthesis.script_repair import ScriptRepair
from kyara_utils.synthesis.short_answers import add_readings, short_conversations, write_short_answers
from kyara_utils.synthesis.short_cited import cite_short_answers

__all__ = [
    "account", "add_contexts", "add_readings", "add_rounds", "answer_cited", "answer_questions", "check_faithfulness",
    "choose_chunks", "cite_short_answers", "cited_conversations", "digest_documents", "document_conversations",
    "drafts_begun", "evolve_questions", "excerpt", "expand_queries", "judge_relevance", "metrics", "one_of_each_rule",
    "questions_per_chunk", "rag_conversations", "retrieve", "rule_rows", "short_conversations",
    "solve_problems", "write_problems", "write_questions", "write_short_answers", "ScriptRepair",
]  # fmt: skip
