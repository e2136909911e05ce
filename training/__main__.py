"""`python -m training`: train the built-in pair or a sister."""

from training.train import main

main()
