"""Recurrent cores: the loop over frames in which each latent waits for the last state."""
