"""The blocks of the user encoder, one file per architecture."""
