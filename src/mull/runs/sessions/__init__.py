"""Carry out a sweep or a race from its plan to the last response, for the command line, a notebook or a server."""
