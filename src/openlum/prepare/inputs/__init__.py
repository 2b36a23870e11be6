"""The user's files: the files that a path names, their columns and types, CSV read as text, and numbered rows."""
