"""Sweeps and races from a plan to their last response, for the command line, a notebook or a server alike."""
