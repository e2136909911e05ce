"""A page on which to ask the pair, drag λ, and compare settings side by side."""
