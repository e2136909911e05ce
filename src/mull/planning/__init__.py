"""Plans before a GPU is rented: what a model takes, which way of serving or sweeping fits, and bounds of time and cost.

All of it is arithmetic on a config and on data sheets. Nothing here was measured, and no weights or GPU are touched.
"""
