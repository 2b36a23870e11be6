"""The engines that compute tables: DuckDB in this process, or Spark."""
