"""Questions answered from documents that are shown, with gold answers: open book, unanswerable, cited, DRCD."""
