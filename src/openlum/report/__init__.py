"""Pages, plots and tables for people. They are computed from artefacts alone."""
