"""One λ at a time: vLLM's live parameters are overwritten, each worker its own shards."""
