"""mull: control how much a language model thinks, by interpolating its Instruct and Thinking weights."""

__version__ = "0.1.0"
