"""The interface for Python code: few lines, the numbers of 05, and nothing heavy before its use."""

import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from helpers.drawn import scene
from helpers.onnx_files import CARD, mean_colour_classifier, numbers, write_model
from helpers.predicting import SCRIPT, make_checkpoint
from helpers.running import ROOT, call
from PIL import Image

from common.emotions import BASIC, CHALLENGE
from common.script.files import UserError
from common.submission import Predictor


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    make_checkpoint(folder / "curriculum", 0)
    return folder


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    """A picture of two faces, the left one larger."""
    path = tmp_path_factory.mktemp("pictures") / "two.png"
    Image.fromarray(scene((110, 120, 90), (270, 60, 55))).save(path)
    return path


def test_faces_of_a_picture_have_the_numbers_of_05(run, photograph, tmp_path, capsys):
    faces = Predictor(run, mixed_precision="no")(photograph)
    assert len(faces) == 2
    more = "--images", photograph, "--checkpoints", run, "--mixed-precision", "no"
    assert call(capsys)(SCRIPT, *more, "--run-dir", tmp_path)[0] == 0
    [row] = pd.read_csv(tmp_path / "images.csv").to_dict("records")
    main = max(faces, key=lambda face: face.box[2] - face.box[0])
    assert main.box[0] < 110 < main.box[2] and 0.4 < main.score <= 1
    assert main.compound == row["compound"] and main.compound in CHALLENGE
    for name in BASIC:
        assert main.probabilities[name] == pytest.approx(row[f"p_{name}"], abs=2e-6)


def test_paths_arrays_and_batches_give_the_same(run, photograph):
    predictor = Predictor(run, mixed_precision="no")
    array = np.asarray(Image.open(photograph))
    one = predictor(photograph)
    assert predictor(str(photograph)) == one == predictor(array)
    batch = predictor(np.stack([array, array]))
    assert len(batch) == 2 and [face.box for face in batch[1]] == [face.box for face in one]
    empty, again = predictor([scene(), photograph])
    assert empty == [] and [face.compound for face in again] == [face.compound for face in one]
    assert predictor([]) == [] == predictor.crops([])


def test_crops_are_read_as_they_are_by_any_networks(run, tmp_path):
    onnx = write_model(tmp_path / "b0.onnx", mean_colour_classifier(*numbers(10)), CARD)
    crop = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    single, other = (Predictor(one, mixed_precision="no").crops(crop) for one in (run, onnx))
    fused = Predictor([run, onnx], weights=[3, 1], mixed_precision="no").crops([crop, crop])
    for name in BASIC:
        expected = 0.75 * single.probabilities[name] + 0.25 * other.probabilities[name]
        assert fused[1].probabilities[name] == pytest.approx(expected, abs=1e-6)
    assert fused[0].box == (0, 0, 40, 40)


def test_mistakes_are_told_in_a_sentence(run, tmp_path):
    predictor = Predictor(run)
    with pytest.raises(UserError, match=r"float64 \(9, 9, 3\)"):
        predictor.crops(np.zeros((9, 9, 3)))
    for shape in ((), (9,), (350, 360), (2, 2, 9, 9, 3)):
        for ask in (predictor, predictor.crops):
            with pytest.raises(UserError, match=re.escape(f"not uint8 {shape}.")):
                ask(np.zeros(shape, np.uint8))
    with pytest.raises(UserError, match=r"not Image \(9, 8, 3\)"):
        predictor(Image.new("RGB", (8, 9)))
    with pytest.raises(UserError, match=r"none\.png cannot be read"):
        predictor(tmp_path / "none.png")
    with pytest.raises(UserError, match=r"no model\.safetensors"):
        Predictor(tmp_path)
    with pytest.raises(UserError, match="--weights has 2 numbers for 1 members"):
        Predictor(run, weights=[1, 2])


def test_importing_it_loads_nothing_heavy():
    code = (
        "import sys; from common.submission import Predictor; "
        "print([m for m in ('torch', 'timm', 'pandas', 'PIL', 'onnxruntime') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout == "[]\n", run.stderr
