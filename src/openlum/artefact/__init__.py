"""Artefacts: directories that are written completely or not at all, with a manifest, checksums, a lock and a key."""
