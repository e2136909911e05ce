"""mull's API inside `vllm serve`: its routes stand before vLLM's own, which answer at the λ of each request."""
