"""The run-time reader of `dataset/`: histories, vocabularies, time fields and packing."""
