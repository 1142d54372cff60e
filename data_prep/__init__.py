"""Data preparation, one module per corpus. Each writes Kaldi data directories that `zfaudio shard` reads."""
