"""The benchmark of a fusion: its figures are those of 05, its outside model is another's."""

import json
import runpy
import sys

import numpy as np
import pandas as pd
import pytest
from helpers.predicting import make_checkpoint, make_crops
from helpers.running import ROOT, call
from helpers.toy_world import make_prepared
from PIL import Image

from benchmarks.fusion import MEMBERS, commands, scores, section_of, validation_weights
from benchmarks.outside_model import hog, write_outside
from common.emotions import BASIC, CHALLENGE_PAIRS, label_of
from common.networks.classifier import create_classifier


@pytest.fixture
def folder(tmp_path):
    """A seed's folder after training: prepared data, two networks and their validation images."""
    data, random = make_crops(make_prepared(tmp_path / "data")), np.random.default_rng(0)
    manifest = pd.read_csv(data / "prepared" / "manifest.csv")
    rows = manifest[(manifest.kind == "compound") & (manifest.split == "val")]
    for seed, name in enumerate(("vit", "cnn")):
        run = make_checkpoint(tmp_path / name / "curriculum", seed).parent
        table = rows[["image", "labels"]].reset_index(drop=True)
        table[list(BASIC)] = random.random((len(table), len(BASIC)))
        table.to_csv(run / "validation.csv", index=False)
    write_outside(tmp_path)
    return tmp_path


def test_the_figures_are_those_that_05_gives(folder, tmp_path, capsys):
    found = scores(folder, seed=0)
    chosen = json.loads((folder / "scores.json").read_text())["weights"]
    assert len(found) == 12
    weights = {"equal mean": [1, 1, 1]}
    weights |= {name: np.eye(3, dtype=int)[place] for place, name in enumerate(MEMBERS)}
    weights |= {f"{name}, chosen on validation images": w for name, w in chosen.items()}
    for number, (row, numbers) in enumerate(weights.items()):
        run = tmp_path / f"run-{number}"
        status, _, complaints = call(capsys)(
            *("05_predict_submit.py", "--data-dir", folder / "data", "--run-dir", run),
            *("--checkpoints", folder / "vit", folder / "cnn", "--fuse", folder / "outside.csv"),
            *("--truth", folder / "data" / "truth.csv", "--weights", *numbers),
        )
        assert status == 0, complaints
        assert found[row] == json.loads((run / "submission" / "score.json").read_text())["macro_f1"]
    # what is there is read again, until a member is another
    record = folder / "scores.json"
    record.write_text(record.read_text().replace('"equal mean": ', '"equal mean": 9'))
    assert scores(folder, seed=0)["equal mean"] > 1
    table = pd.read_csv(folder / "outside.csv")
    table.iloc[:, 1:] = table.iloc[:, 1:].to_numpy()[::-1]
    table.to_csv(folder / "outside.csv", index=False)
    assert scores(folder, seed=0)["equal mean"] <= 1


def test_each_script_accepts_the_settings_it_is_given(tmp_path, monkeypatch):
    networks = {}
    for script, *flags in commands(tmp_path, seed=3):
        monkeypatch.setattr(sys, "argv", [script, *map(str, flags)])
        found = runpy.run_path(str(ROOT / script))
        settings = (found.get("arguments") or found["parse"])()
        assert settings.data_dir == tmp_path / "data"
        if script != "01_prepare_data.py":
            assert settings.seed == 3
            run = settings.run_dir.relative_to(tmp_path).name
            named = settings.model, settings.image_size, settings.model_options
            assert networks.setdefault(run, named) == named  # each stage starts from the one before
    assert networks.keys() == {"vit", "cnn"}
    create_classifier(*networks["cnn"])


def test_the_outside_model_has_a_row_for_every_frame_of_a_video_with_faces(folder):
    seen = pd.read_csv(folder / "outside.csv")
    assert [place[:2] for place in seen.image_location] == ["01"] * 5 + ["10"] * 4  # 02: no face
    before, gap, after = seen[list(BASIC)].to_numpy()[1:4]
    assert abs(before - after).max() > 1e-3
    np.testing.assert_allclose(gap, (before + after) / 2, rtol=1e-4)
    assert seen[list(BASIC)].to_numpy().min() > 0 and seen[list(BASIC)].to_numpy().max() < 1


def test_gradients_are_counted_in_the_cell_and_the_direction_they_have(tmp_path):
    picture = np.zeros((96, 96), dtype=np.uint8)
    picture[:, 48:] = 200  # one edge, upright: its gradient lies along a row, direction 0
    Image.fromarray(picture).save(tmp_path / "edge.png")
    upright = hog(tmp_path / "edge.png").reshape(11, 11, 4, 8)
    assert set(np.unique(np.nonzero(upright)[3])) == {0}
    assert set(np.unique(np.nonzero(upright)[1])) == {4, 5, 6}  # blocks that touch column 48
    Image.fromarray(picture.T).save(tmp_path / "edge.png")
    level = hog(tmp_path / "edge.png").reshape(11, 11, 4, 8)
    assert set(np.unique(np.nonzero(level)[3])) == {4}  # a right angle, of eight in half a turn


def test_weights_follow_who_is_right_on_the_validation_images(tmp_path):
    truth = [pair for pair in CHALLENGE_PAIRS for _ in range(5)]
    random = np.random.default_rng(0)
    paths = []
    for name, share in (("right", 1.0), ("noise", 0.0), ("wrong", -1.0)):
        values = 0.5 + 0.1 * random.random((len(truth), len(BASIC)))
        for row, pair in enumerate(truth):
            values[row, list(pair)] += 0.3 * share
        table = pd.DataFrame(values, columns=list(BASIC))
        table.insert(0, "labels", [label_of(pair) for pair in truth])
        table.insert(0, "image", [f"{row}.png" for row in range(len(truth))])
        paths.append(tmp_path / f"{name}.csv")
        # each file has an order of its own
        table.sample(frac=1, random_state=len(paths)).to_csv(paths[-1], index=False)
    for weights in validation_weights(paths, seed=0).values():
        right, _, wrong = np.array(weights).reshape(3, -1)
        assert (right > wrong).all()


def test_differences_are_to_the_best_member():
    rows = [("ViT", 0.5), ("CNN", 0.7), ("outside model", 0.6), ("equal mean", 0.8)]
    table = pd.DataFrame(
        [
            {"row": row, "world": "demo", "seed": seed, "score": score + seed / 100}
            for row, score in rows
            for seed in range(3)
        ]
    )
    named = [name for name, _, _ in section_of(table).rows]
    assert named == ["CNN", "outside model", "ViT", "equal mean"]
