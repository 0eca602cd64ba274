"""Hidden states on disk: written once, read by every run."""
