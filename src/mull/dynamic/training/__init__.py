"""Trains the learned estimators on the records of sweeps: a head of a few thousand numbers, in minutes on a CPU."""
