"""The page of a pair's pilot study: how representations and loss change along λ."""
