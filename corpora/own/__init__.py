"""The user's own data: tables, folders and Hugging Face datasets."""
