"""Benchmarks: every ranker without and with knowledge, retrieval, and what each part of the method is worth."""
