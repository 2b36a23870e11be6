"""Retrieval: the answers of the Large User Model as queries against all item embeddings."""
