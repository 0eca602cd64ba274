"""What every folder may import and what imports nothing of ours: names, files, the console, the Hub client."""
