"""Records (a Delta Lake table), vectors (Milvus) and the questions asked of them."""
