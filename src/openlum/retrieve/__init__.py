"""Retrieval: answers searched against all item embeddings."""
