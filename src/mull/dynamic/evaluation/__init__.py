"""Whether λ per query pays: samples every policy on the same questions and compares it with the static frontier."""
