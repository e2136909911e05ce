"""How two models and what lies between them differ: weights and next-token distributions."""
