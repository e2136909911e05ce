"""The figures: one Altair specification each, for page, PNG, SVG and PDF."""
