"""Texts and words as vectors without a network: word2vec, GloVe and the files of such vectors; bags of words."""
