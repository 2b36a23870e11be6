"""The engines that compute tables: DuckDB in the process, or Spark."""
