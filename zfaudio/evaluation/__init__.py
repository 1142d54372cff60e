"""Measure how good a model is: its likelihood, its latents, its samples, and how it compares with other models."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
