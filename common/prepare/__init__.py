"""What 01 does with the images and videos that the readers of `common.raw` find."""
