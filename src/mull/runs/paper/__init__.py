"""The interpolation paper's studies: their settings, how to tell them apart, and the published values beside them."""
