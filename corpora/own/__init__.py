"""Data of the user's own: tables, folders and Hugging Face data sets."""
