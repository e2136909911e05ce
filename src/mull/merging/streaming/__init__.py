"""From two checkpoints to a third without holding either: plan, shards, threads, crash-safe output, self-check."""
