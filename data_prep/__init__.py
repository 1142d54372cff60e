"""Data preparation, one file a corpus: each writes Kaldi data directories that `zfaudio shard` reads."""
