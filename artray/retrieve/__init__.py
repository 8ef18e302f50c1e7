"""Retrieval: methods that embed a picture, how embeddings are compared, ranked and fused, copies, and judging."""
