"""Faces of videos or pictures to compounds: the files of the challenge, and `Predictor`."""

from common.submission.predictor import Face, Predictor

__all__ = ["Face", "Predictor"]
