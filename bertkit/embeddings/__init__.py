"""Vectors of words, one a word whatever its context: trained (word2vec, GloVe), read and written."""
