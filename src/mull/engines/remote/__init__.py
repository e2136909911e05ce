"""Text from OpenAI-compatible servers."""
