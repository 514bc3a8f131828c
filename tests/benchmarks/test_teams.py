"""The other teams' rows: each runs in little to a score, and does what its team does."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.challenge import FRAMES, VIDEOS, add_videos
from helpers.drawn import scene, write_video
from helpers.running import ROOT, record, run_here
from helpers.toy_world import make_prepared

from benchmarks.paper_rows import RUNS, SECTIONS
from benchmarks.paper_runs import Row, commands_of
from benchmarks.teams import aipl_bme_seu, avcer, ets_livia, harness, hsemotion
from common.emotions import ADAPTATION, BASIC, CHALLENGE
from common.metrics import divergence
from common.networks.classifier import create_classifier
from common.networks.weights import TRACKS, save_model
from common.submission.decision import PUBLISHED
from common.submission.files import HEADER, locate

SIZE = "--model vit_tiny_patch16_224 --image-size 16 --model-options patch_size=4 embed_dim=16"
SIZE = [*SIZE.split(), "depth=1", "num_heads=2"]
OPTIONS = {"patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2}


def make_world(folder: Path) -> Path:
    """Write a toy world with stills, labelled sequences and challenge videos, and its own ViT."""
    data = make_prepared(folder / "data")
    path = data / "prepared" / "manifest.csv"
    table = pd.read_csv(path, keep_default_na=False)
    table["dataset"] = table["dataset"].replace("Toy", "RAF-DB-basic")
    table["dataset"] = table["dataset"].replace("Toy-compound", "RAF-DB-compound")
    frames = table[table.dataset == "AffectNet"].iloc[:24].copy()
    frames["dataset"], frames["subject"] = "Aff-Wild2", [f"v{k // 8}" for k in range(24)]
    frames["split"] = ["val" if k // 8 == 2 else "train" for k in range(24)]
    frames["hash"] = [f"{k + 10**6:016x}" for k in range(24)]
    for number, (row, image) in enumerate(frames["image"].items()):
        name = f"images/Aff-Wild2/v{number // 8}/{number % 8 * 2 + 1:05d}.png"  # every other frame
        (data / "prepared" / name).parent.mkdir(parents=True, exist_ok=True)
        (data / "prepared" / name).write_bytes((data / "prepared" / image).read_bytes())
        frames.loc[row, "image"] = name
    pd.concat([table, frames]).to_csv(path, index=False)
    add_videos(data).rename(data / "truth.csv")
    rows = [locate(f"{k + 1:02d}", f) for k in range(VIDEOS) for f in range(1, FRAMES + 1)]
    listed = "\n".join([HEADER, *(f"{place}," for place in rows)])
    (data / "prepared" / "frame_list.txt").write_text(listed + "\n")
    videos = data / "raw" / "C-EXPR-DB" / "videos"
    videos.mkdir(parents=True)
    for number in range(VIDEOS):
        pictures = [scene((100 + 9 * k, 120, 90), (250, 100, 70)) for k in range(FRAMES)]
        write_video(videos / f"{number + 1:02d}.mp4", pictures)
    own = folder / "run" / "single"
    own.mkdir(parents=True)
    torch.manual_seed(0)
    save_model(own, create_classifier(SIZE[1], 16, OPTIONS))
    settings = {"model": SIZE[1], "image_size": 16, "model_options": OPTIONS}
    settings |= {"mean": [0.5] * 3, "std": [0.25] * 3}
    (own / "run.json").write_text(json.dumps({"settings": settings}))
    sizes = "model = 'vit_tiny_patch16_224'\nimage_size = 16\nglobal_batch = 32\nworkers = 0\n"
    sizes += "mixed_precision = 'no'\n[common.model_options]\n"
    sizes += "\n".join(f"{key} = {value}" for key, value in OPTIONS.items())
    stages = "[curriculum]\nstage_epochs = [1, 1]\ncompound_shares = [0.0, 1.0]\n"
    (folder / "recipe.toml").write_text(f"[common]\n{sizes}\n{stages}")
    return folder


def run(world: Path, name: str) -> Path:
    """Run a row's commands in this process; return its folder."""
    other = RUNS[name].other and world / "rows" / RUNS[name].other
    data = f"{world / 'data'}:{world / 'run'}"
    recipe = world / "recipe.toml"
    row = Row(world / "rows" / name, data, 3, name, recipe, "demo", [], other)
    commands, result = commands_of(row)
    for script, *flags in commands:
        torch.set_num_threads(1)
        run_here(script, *flags)
    score = json.loads(result.read_text())
    assert 0 <= score["macro_f1"] <= 1 and score["frames"] == VIDEOS * FRAMES - FRAMES - 1
    return row.folder


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = make_world(tmp_path_factory.mktemp("teams"))
    run(folder, "frames")
    return folder


def settings_of(folder: Path) -> dict:
    return record(folder / "submission")["settings"]


@pytest.mark.parametrize("name", ["AIPL-BME-SEU", "ETS-LIVIA"])
def test_a_system_in_time_decides_by_its_own_table_alone(world, name):
    folder = run(world, name)
    own = pd.read_csv(folder / "compounds.csv")
    np.testing.assert_allclose(own[list(CHALLENGE)].sum(axis=1), 1, atol=1e-4)
    made = pd.read_csv(folder / "submission" / "probabilities.csv").set_index("image_location")
    decided = own[list(CHALLENGE)].to_numpy().argmax(1)
    assert made.decision[own.image_location].tolist() == decided.tolist()
    assert own[list(CHALLENGE)].std().max() > 0.01  # it learned something


def test_a_table_of_sound_is_fused_where_a_world_has_one(world):
    row = Row(world / "rows" / "x", f"{world / 'data'}:run", 0, "x", Path("c"), "demo", [], world)
    assert "sound.csv" not in str(ets_livia.commands(row))
    sound = world / "data" / "sound.csv"
    sound.touch()
    try:
        for module in (ets_livia, avcer):
            assert str(sound) in module.commands(row)[-1]
        assert ets_livia.commands(row)[-1][-3:] == ["0", "1", "1"]
    finally:
        sound.unlink()


def test_hfut_fuses_three_networks_and_a_table_of_compounds(world):
    folder = run(world, "HFUT-MAC2")
    made = settings_of(folder)
    models = [record(Path(path).parent)["settings"]["model"] for path in made["checkpoints"]]
    assert models == ["resnet10t", "vit_tiny_patch16_224", "cnn_small"]
    assert made["fuse"] == [str(folder / "compounds.csv")] and made["weights"] is None


def test_avcer_weighs_its_members_by_emotion_and_pairs_by_rule_2(world):
    folder = run(world, "AVCER")
    made = settings_of(folder)
    assert len(made["weights"]) == 12 and made["fuse"] == [str(folder / "dynamic.csv")]
    second = run(world, "AVCER, rule 2")
    first = pd.read_csv(folder / "submission" / "probabilities.csv")
    pairs = pd.read_csv(second / "pairs.csv")
    # surprise is in five of the seven, happiness in one
    by_hand = (2 * first.p_Surprise + 6 * first.p_Happiness) / 8
    np.testing.assert_allclose(pairs.Happily_Surprised, by_hand, atol=1e-5)
    by_hand = (4 * first.p_Sadness + 5 * first.p_Anger) / 9
    np.testing.assert_allclose(pairs.Sadly_Angry, by_hand, atol=1e-5)
    decided = pd.read_csv(second / "submission" / "probabilities.csv").decision
    assert decided.tolist() == pairs[list(CHALLENGE)].to_numpy().argmax(1).tolist()


def test_hsemotion_decides_all_faces_by_the_settings_nearest_to_the_published_shares(world):
    folder = run(world, "HSEmotion")
    faces = settings_of(folder / "faces")
    assert (faces["faces"], faces["smooth"], faces["rule"]) == ("max", "none", "sum")
    made = settings_of(folder)
    table = pd.read_csv(folder / hsemotion.TABLE)
    rule, kind, width = hsemotion.choose(table)
    assert (made["rule"], made["smooth"], made["smooth_width"]) == (rule, kind, width)
    assert made["fuse"] == [str(folder / hsemotion.TABLE)] and made["weights"] == [0.0, 1.0]


def test_the_curriculum_stands_in_both_tracks_and_on_the_shared_network(world):
    ends = (", shared", "", ", shared, with")
    shared, without, other = (run(world, f"Netease{end}") for end in ends)
    tracks = [record(folder / "submission")["track"] for folder in (shared, without, other)]
    assert tracks == [TRACKS[0], TRACKS[0], TRACKS[1]]
    assert len(settings_of(other)["checkpoints"]) == 5
    starts = [record(path)["settings"] for path in (shared / "curriculum", without / "curriculum")]
    assert [start["model"] for start in starts] == ["cnn_small", "vit_tiny_patch16_224"]
    assert starts[0]["init"].endswith("rows/frames/single/model.safetensors")


def test_a_window_holds_the_nearest_frames_of_the_same_video(world):
    made = world / "rows" / "frames" / "frames.npz"
    frames = harness.load_frames(world / "data" / "prepared", made)
    offsets = np.array([-4, -1, 0, 3, 50])
    around = harness.windows(frames, offsets, np.random.default_rng(0))
    rows = frames.rows
    for part in ("sequences", "challenge"):
        for k in np.flatnonzero(rows["part"] == part):
            seen = rows.iloc[around[k, :, 0]]
            assert set(seen["video"]) == {rows["video"][k]} and set(seen["part"]) == {part}
            there = rows[(rows["part"] == part) & (rows["video"] == rows["video"][k])]
            wanted = rows["frame"][k] + offsets
            nearest = np.abs(there["frame"].to_numpy()[None] - wanted[:, None]).min(axis=1)
            assert (np.abs(seen["frame"].to_numpy() - wanted) == nearest).all()
            assert len(set(around[k, :, 1])) == 1  # one view throughout
    still = around[(rows["part"] == "stills").to_numpy()]
    assert (still[..., 0] == still[:, :1, 0]).all() and len(np.unique(still[..., 1])) == 4
    assert not rows.training[rows["part"] == "challenge"].any()
    assert set(rows.labels[rows["part"] == "challenge"]) == {""}


def test_weights_go_to_the_member_that_is_right():
    random = np.random.default_rng(0)
    truth = random.integers(0, 6, 90)
    right, noise = np.eye(6)[truth] * 0.6, random.dirichlet(np.ones(6), 90)
    first = np.reshape(avcer.best_weights(right, noise, truth, 0), (2, 6))
    second = np.reshape(avcer.best_weights(noise, right, truth, 0), (2, 6))
    assert first[0].mean() > first[1].mean() and second[1].mean() > second[0].mean()


def test_the_settings_nearest_to_the_published_shares_are_chosen():
    random = np.random.default_rng(1)
    table = pd.DataFrame({"image_location": [locate("01", k + 1) for k in range(60)]})
    table[[f"p_{name}" for name in BASIC]] = random.dirichlet(np.full(6, 0.3), 60)
    rule, kind, width = hsemotion.choose(table)
    values = table[[f"p_{name}" for name in BASIC]]
    windows = {"none": values, "box": values.rolling(max(width, 1), 1, True).mean()}
    if kind in windows:
        scores = hsemotion.compound_scores(windows[kind].to_numpy(), rule)
    else:
        scores = hsemotion.compound_scores(hsemotion.smooth(values.to_numpy(), kind, width), rule)
    found = divergence(np.bincount(scores.argmax(1), minlength=7), PUBLISHED)
    for other in hsemotion.RULES:
        scores = hsemotion.compound_scores(values.to_numpy(), other)
        assert found <= divergence(np.bincount(scores.argmax(1), minlength=7), PUBLISHED)


def test_the_seven_of_a_pyramid_are_shares_of_their_coarse_class():
    torch.manual_seed(0)
    network = aipl_bme_seu.TimePyramid(8).eval()
    frames = torch.randn(5, 3, 15, 8)
    found = network(frames).exp()
    torch.testing.assert_close(found.sum(1), torch.ones(5))
    # the frame that is judged is in the middle of each sequence
    assert (aipl_bme_seu.AROUND[:, 7] == 0).all() and aipl_bme_seu.AROUND.shape == (3, 15)
    assert ets_livia.TemporalConvolutions(8, 7)(frames[:, 0]).shape == (5, 7)
    assert avcer.Memory(8)(frames[:, 0]).shape == (5, len(ADAPTATION))
    assert avcer.BEFORE[-1] == 0 and len(avcer.BEFORE) == 10


def test_every_team_of_the_table_has_a_row_with_its_source():
    named = {run for name in ("teams", "tracks") for _, run, _ in SECTIONS[name].rows}
    assert {RUNS[run].team.partition(".")[0] for run in named} == {
        path.stem for path in (ROOT / "benchmarks/teams").glob("[a-z]*.py")
    } - {"harness"}
    for path in (ROOT / "benchmarks/teams").glob("*.py"):
        lines = path.read_text().splitlines()
        assert len(lines) < 150 or path.stem == "harness"
        if path.stem not in ("__init__", "harness", "frames"):
            assert "table 3" in path.read_text() or "challenge" in path.read_text()
