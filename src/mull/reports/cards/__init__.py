"""Model cards: the README.md of what mull makes, with the metadata that the hub reads."""
