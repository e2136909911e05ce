"""A proxy: mull's API in front of servers elsewhere, each of which answers at any λ."""
