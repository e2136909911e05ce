"""λ per query: how much to think is estimated for each query before it is answered, λ(q).

After "dynamic model interpolation" (DAMI), whose two families are a learned preference and a zero-shot confidence. The
formulas here are our reconstruction: the paper could not be read whole, and each estimator says what is its own.
"""
