"""What an epoch shows, from its plan to augmented batches."""
