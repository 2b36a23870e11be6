"""Benchmarks: rankers without and with knowledge, retrieval, and ablations, with tuning budgets, seeds and paired tests."""
