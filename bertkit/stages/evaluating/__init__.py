"""What evaluate measures, and of which checkpoints."""
