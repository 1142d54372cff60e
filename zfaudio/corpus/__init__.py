"""Find, check, cut and split recordings, and read and write the Kaldi data directories that list them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
