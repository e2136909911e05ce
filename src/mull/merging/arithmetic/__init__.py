"""Arithmetic on tensors: interpolation, weighted sums, angles, thresholds, random numbers; compiled or in torch."""
