"""Weights in memory at any λ or by any method, for every engine that computes in process."""
