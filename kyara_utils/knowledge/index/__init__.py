"""From passages to answers: the embedded and the server engine, dense, lexical and hybrid search, its quality."""
