"""Publishing a trained model on the Hub: its files, its results and its card; nothing here needs torch."""
