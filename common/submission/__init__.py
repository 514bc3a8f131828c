"""From frames and a classifier to a submission file, its score and its report."""
