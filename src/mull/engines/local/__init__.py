"""Text from transformers models in this process: continuous batching over the model's own layers."""
