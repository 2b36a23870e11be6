"""Artefacts: directories that appear whole, with a manifest, checksums, a lock and a key."""
