"""Recurrent cores: loops over frames, each as the equations read and in a fast version, and the products in them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
