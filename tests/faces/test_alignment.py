"""Which pictures are aligned crops already."""

import numpy as np
import pytest

from common.faces.alignment import TEMPLATE, is_crop
from common.faces.detector import Faces


@pytest.mark.parametrize(
    ("size", "move", "expected"),
    [
        ((112, 112), 0.0, True),
        ((256, 256), 0.01, True),
        ((112, 112), 0.1, False),
        ((350, 350), 0.0, False),
    ],
)
def test_a_lone_picture_is_a_crop_if_it_is_small_and_its_face_is_in_place(size, move, expected):
    landmarks = (TEMPLATE + move) * np.array(size[::-1])
    box = np.array([[0.1, 0.1, 0.9, 0.9]]) * size[0]
    face = Faces(box.astype(np.float32), np.ones(1, np.float32), landmarks[None].astype(np.float32))
    assert is_crop(face, size) is expected
