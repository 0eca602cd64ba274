"""Predictions of a trained model for audio files and samples, and their output as JSON, CSV and table."""
