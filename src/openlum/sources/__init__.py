"""Sources of logs: public data sets and the simulated marketplace."""
