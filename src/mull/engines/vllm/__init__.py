"""vLLM as the engine: weights of any λ set in place, or a λ for every request of a batch.

Optional: vLLM must be installed in the same environment. mull's plugin (`plugin.py`) tells vLLM of both ways.
"""
