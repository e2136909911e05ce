"""mull's API in front of another server: λ, `auto`, budgets and the playground here, responses there.

The server behind is an ASGI application: vLLM's own routes in its process, or a forwarder to servers elsewhere. It
must read λ from `vllm_xargs`, as vLLM with mull's plugin does, or have a model for each λ.
"""
