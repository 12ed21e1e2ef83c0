"""What the stages export to and import from: a file a format."""
