"""Speech from a trained model."""
