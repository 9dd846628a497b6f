"""One extractor per file; each is one cache stage."""
