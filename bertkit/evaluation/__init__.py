"""How good a model is: likelihood of text, minimal pairs, translations, words and their likeness."""
