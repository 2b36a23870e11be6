"""Step 1, knowledge construction: training of the Large User Model."""
