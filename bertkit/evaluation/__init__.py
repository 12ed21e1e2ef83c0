"""How good a language model is: likelihood of text, minimal pairs, translations."""
