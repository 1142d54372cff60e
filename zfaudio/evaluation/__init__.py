"""How good a model is: likelihood, latents, samples."""
