"""English, word by word: a caption's tokens, word lists, lemmas and parts of speech. All parsers use it."""
