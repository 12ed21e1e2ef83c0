"""The model card: what was measured, on what machine, how to load it."""
