"""The training loop and what surrounds it: run folder, states, evaluation, folds."""
