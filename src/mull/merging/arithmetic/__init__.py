"""What is computed on tensors, rounded once: products, sums, angles, thresholds, random numbers, compiled or not."""
