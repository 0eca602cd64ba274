"""Hugging Face speech models as upstreams."""
