"""Shows how long work goes on: in a terminal, in a notebook, or not at all."""
