"""From a folder of documents to an index that answers: readers, chunks, vectors, search."""
