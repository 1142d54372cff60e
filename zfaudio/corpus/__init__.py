"""Find, check, cut and split recordings, and read and write the Kaldi data directories that list them."""
