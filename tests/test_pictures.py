"""Figures: what stands where in them."""

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from common.pictures import new_figure, save_examples, save_figure

RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)


def flat(*colours):
    """Return images of one colour each, uint8 [1, k, 3, 8, 8]."""
    images = np.array(colours, dtype=np.uint8)[None, :, :, None, None]
    return np.broadcast_to(images, (1, len(colours), 3, 8, 8))


def test_rows_of_examples_stand_in_order_whole_and_beside_their_names(tmp_path):
    long = "a name of many letters, which has room"
    rows = {"Sadly_Angry": flat(RED), "none": flat(RED)[:0], long: flat(GREEN, BLUE)}
    save_examples(
        tmp_path / "a.png", rows, "A title that is longer than the images are wide " * 3, 20
    )
    sheet = np.asarray(Image.open(tmp_path / "a.png"))
    assert sheet.shape[0] == 30 + 2 * (20 + 12)
    corners = []
    for colour in (RED, GREEN, BLUE):
        down, across = np.nonzero((sheet == colour).all(2))
        assert len(down) == 20 * 20 and np.ptp(down) == np.ptp(across) == 19
        corners.append((int(down.min()), int(across.min())))
    (red, left), (green, first), (blue, second) = corners
    assert (red, green, blue) == (30, 62, 62) and (first, second) == (left, left + 20)
    # letters, and none of them cut off by the images or the border
    ink = (sheet.astype(int).sum(2) < 600) & (np.ptp(sheet, axis=2) < 60)
    assert ink[62:82, : left - 12].any() and not ink[30:, left - 10 :].any()
    assert ink[:30].any() and not ink[:, :2].any() and not ink[:, -2:].any()
    save_examples(tmp_path / "b.png", {}, "nothing")
    assert Image.open(tmp_path / "b.png").size[1] == 30


def test_a_figure_is_laid_out_as_matplotlib_does(tmp_path):
    def drawn():
        figure, axes = new_figure(4, 3, 2)
        for axis in axes:
            axis.plot([0, 1], [1, 3])
            axis.set_title("a title", loc="left")
        figure.suptitle("above", x=0.01, ha="left")
        return figure

    save_figure(drawn(), tmp_path / "ours.png")
    Figure.savefig(drawn(), tmp_path / "its.png")
    ours, its = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("ours", "its"))
    np.testing.assert_array_equal(ours, its)
