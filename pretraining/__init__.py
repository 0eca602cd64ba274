"""Self-supervised training of an upstream on one's own speech, without labels."""
