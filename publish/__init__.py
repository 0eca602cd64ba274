"""Publish a model on the Hub: what is uploaded, its card, the upload. It needs files alone, no PyTorch."""
