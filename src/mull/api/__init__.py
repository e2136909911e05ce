"""What `import mull` shows: a pair, merges, sweeps, runs, choices, and a model to talk to.

One call each, with the defaults of the command line; the work is done on the floors below.
"""
