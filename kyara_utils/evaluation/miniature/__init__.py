"""The bundled miniature questions, which every run can afford; never shown as benchmark scores."""
