"""Questions, retrieval-augmented answers, document prompts and persona maths: where training rows come from."""

from kyara_utils.synthesis.documents import document_conversations
from kyara_utils.synthesis.persona_maths import solve_problems, write_problems
from kyara_utils.synthesis.rag import (
    answer_questions,
    digest_documents,
    expand_queries,
    judge_relevance,
    rag_conversations,
    retrieve,
    write_questions,
)

__all__ = [
    "answer_questions", "digest_documents", "document_conversations", "expand_queries", "judge_relevance",
    "rag_conversations", "retrieve", "solve_problems", "write_problems", "write_questions",
]  # fmt: skip
