"""A λ for every request of a batch: layers that hold both ends and mix per row."""
