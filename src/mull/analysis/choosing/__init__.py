"""Choosing λ: for a budget or a floor, by a race, and what λ per query could gain."""
