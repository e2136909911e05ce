"""How the built-in pair was made: corpus, vocabulary, architectures, training, export. Not part of the package."""
