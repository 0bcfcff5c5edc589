"""Services that run models: completions, embeddings, reranking, tokenizing."""
