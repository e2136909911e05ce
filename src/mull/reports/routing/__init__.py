"""The report of an evaluation of λ per query."""
