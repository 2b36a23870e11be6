"""The user's files: which files a path names, their columns and types, CSV as text, numbered rows."""
