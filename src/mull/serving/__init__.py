"""An OpenAI-compatible API in which every request chooses how much to think: FastAPI routes over an engine.

Optional: needs the extra `serve`.
"""
