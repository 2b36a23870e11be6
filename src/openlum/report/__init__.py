"""The pages, plots and tables that people read. They read artefacts only."""
