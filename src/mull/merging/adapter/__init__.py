"""Thinking − Instruct as a LoRA adapter of low rank."""
