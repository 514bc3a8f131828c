"""Faces in the frames of a video: decode, detect, follow, align."""
