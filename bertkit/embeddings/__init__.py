"""Texts and words as vectors without a network: bags of words and n-grams."""
