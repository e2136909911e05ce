"""The interpolation paper's studies: their settings, the λ of a study, and the published values."""
