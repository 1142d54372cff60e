"""Faults on purpose: damaged files, killed processes, a server that misbehaves. Run by hand, see __main__.py."""
