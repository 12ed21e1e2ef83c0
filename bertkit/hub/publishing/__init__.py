"""Up to the Hub: which files, and when."""
