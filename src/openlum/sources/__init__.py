"""Where logs come from: public data sets and the simulated marketplace."""
