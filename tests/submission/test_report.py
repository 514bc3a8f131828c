"""The report opens offline, tells the score, and fits wide and narrow pages; pictures are PNGs."""

import base64
import io
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from common import metrics
from common.emotions import CHALLENGE, multi_hot, parse_labels
from common.pictures import save_confusion, save_curves, thumbnail
from common.submission import decision
from common.submission import files as submission
from common.submission.report import write_report


def make_submission(videos=4, length=50, seed=0):
    """Return (table, truth): synthetic probabilities whose emotions change with the truth."""
    random = np.random.default_rng(seed)
    truth = np.repeat(random.integers(-1, 7, videos * length // 10), 10)
    hot = np.array([multi_hot(" ".join(parse_labels(name))) for name in CHALLENGE] + [[0.5] * 6])
    probabilities = np.clip(0.3 * hot[truth] + random.uniform(0, 0.7, (len(truth), 6)), 0, 1)
    places = [(f"v{v + 1}", f + 1) for v in range(videos) for f in range(length)]
    face = random.random(len(places)) > 0.1
    seen = pd.DataFrame(places, columns=["video", "frame"])[face].reset_index(drop=True)
    timelines = decision.Timelines([submission.locate(*place) for place in places], seen)
    return decision.decide(timelines, probabilities[face], decision.Decision()), truth


def make_report(path, table, truth=None, images=None, **more):
    score = None
    if truth is not None:
        known = truth >= 0
        score = metrics.summarise(
            truth[known], table["decision"].to_numpy()[known], table["video"][known], 7
        )
    more["picture"] = (lambda row: thumbnail(images[row])) if images else lambda row: ""
    write_report(path, table, title="A run", truth=truth, score=score, **more)
    return path.read_text(encoding="utf-8"), score


def record_of(warnings=(), **settings):
    """Return as much of a run.json as the page shows."""
    made = {"device": "a CPU", "git_commit": "0" * 40, "command": "05_predict_submit.py"}
    weights = {"model.safetensors": "ab" * 32}
    versions = {"python": "3.11"}
    return {"settings": settings, "weights_sha256": weights, "warnings": warnings, **made} | {
        "versions": versions
    }


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<style.*?</style>|<[^>]+>", " ", page, flags=re.S))


@pytest.fixture
def faces(tmp_path):
    paths = []
    for number in range(10):
        path = tmp_path / "crops" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (256, 256), (20 * number, 90, 120)).save(path)
        paths.append(str(path))
    return paths


def test_report_is_one_page_that_needs_nothing_else(tmp_path, faces):
    table, truth = make_submission()
    images = [faces[i % 10] if seen else "" for i, seen in enumerate(table["face"])]
    page, _ = make_report(tmp_path / "report.html", table, truth, images)
    assert page.startswith("<!doctype html>") and page.rstrip().endswith("</html>")
    assert not re.search(r"https?:|<script|<link|@import|url\(", page)
    sources = re.findall(r'src="([^"]{0,30})', page)
    assert len(sources) > 20 and all(source.startswith("data:image/") for source in sources)


def test_report_tells_score_interval_classes_and_references(tmp_path):
    table, truth = make_submission()
    page, score = make_report(tmp_path / "report.html", table, truth)
    text = text_of(page)
    for number in (score["macro_f1"], score["chance_f1"], score["constant_f1"]):
        assert f"{number:.4f}" in text
    assert "{:.3f}–{:.3f}".format(*score["interval"]) in text
    for index, name in enumerate(CHALLENGE):
        f1, support = score["f1"][index], score["support"][index]
        assert re.search(rf"{name.replace('_', ' ')} {f1:.3f} [\d.]+ [\d.]+ {support} ", text)
    counts = np.bincount(table["decision"], minlength=7)
    gap = metrics.divergence(counts, submission.DATABASE_COUNTS)
    assert f"{gap:.3f} nats" in text and "27.6 %" in text  # 24,915 of 90,302 published


def test_without_truth_the_report_claims_no_score(tmp_path):
    table, _ = make_submission()
    page, _ = make_report(tmp_path / "report.html", table)
    text = text_of(page)
    assert "macro-F1" not in text and "truth" not in text.lower()


def test_timeline_shows_scores_decision_and_gaps_frame_by_frame(tmp_path):
    table, truth = make_submission(videos=2)
    truth[:10] = -1
    page, _ = make_report(tmp_path / "report.html", table, truth)
    pictures = {}
    for kind in ("scores of the seven classes", "decision", "truth", "differs", "no face"):
        found = re.search(rf'alt="{kind} over time"\s+src="data:image/png;base64,([^"]+)"', page)
        pictures[kind] = np.array(Image.open(io.BytesIO(base64.b64decode(found[1]))))
    first = table[table["video"] == "v1"]
    known = truth[: len(first)]
    heat = pictures["scores of the seven classes"]
    expected = first[list(CHALLENGE)].to_numpy().T / table[list(CHALLENGE)].to_numpy().max() * 255
    assert heat.shape == (7, 50) and np.abs(heat - expected).max() <= 1
    decision = first["decision"].to_numpy()
    np.testing.assert_array_equal(pictures["decision"][0], decision + 1)
    np.testing.assert_array_equal(pictures["truth"][0], known + 1)
    np.testing.assert_array_equal(pictures["no face"][0], 1 - first["face"])
    np.testing.assert_array_equal(pictures["differs"][0], (known >= 0) & (known != decision))


def test_most_and_least_certain_frames_are_shown(tmp_path, faces):
    table, truth = make_submission()
    images = [faces[i % 10] if seen else "" for i, seen in enumerate(table["face"])]
    page, _ = make_report(tmp_path / "report.html", table, truth, images)
    scores = np.sort(table[list(CHALLENGE)].to_numpy(), axis=1)
    margin = np.where(table["face"] == 1, scores[:, -1] - scores[:, -2], np.nan)
    shown = re.findall(r'<img alt="(v\d/\d{5}\.jpg)"', page)
    for row in (np.nanargmax(margin), np.nanargmin(margin)):
        assert f"{table['video'][row]}/{table['frame'][row]:05d}.jpg" in shown


def test_faces_stand_at_the_peaks_of_a_videos_classes(tmp_path, faces):
    table, _ = make_submission(videos=2)
    images = [faces[i % 10] if seen else "" for i, seen in enumerate(table["face"])]
    page, _ = make_report(tmp_path / "report.html", table, images=images)
    for video in ("v1", "v2"):
        rows = table[(table["video"] == video) & (table["face"] == 1)]
        counts = rows["decision"].value_counts()
        shown = set(map(int, re.findall(rf'alt="{video}, frame (\d+)"', page)))
        assert len(shown) == min(4, len(counts))
        index = counts.idxmax()
        peak = rows.loc[rows.loc[rows["decision"] == index, CHALLENGE[index]].idxmax(), "frame"]
        assert peak in shown


def test_lost_crop_costs_its_picture_only(tmp_path):
    table, _ = make_submission()
    page, _ = make_report(tmp_path / "report.html", table, images=["/absent.jpg"] * len(table))
    assert "Most certain" not in page and "<h2>Videos" in page


def test_names_from_files_cannot_inject_markup(tmp_path):
    table, _ = make_submission()
    table["video"] = table["video"].str.replace("v1", "<b onload=x>")
    page, _ = make_report(
        tmp_path / "report.html", table, record=record_of(["<i>w</i>"], rule="<u>")
    )
    assert not re.search(r"<b onload|<i>w|<u>", page)
    assert "&lt;b onload=x&gt;" in page and "&lt;i&gt;w" in page and "&lt;u&gt;" in page


@pytest.mark.parametrize("videos, length", [(56, 470), (400, 20), (1, 10)])
def test_report_stays_small_for_any_number_of_videos(tmp_path, videos, length):
    table, truth = make_submission(videos, length)
    page, _ = make_report(tmp_path / "report.html", table, truth)
    assert len(page) < 10e6
    assert page.count('class="video"') == min(videos, 300)
    assert ("The first 300 of 400 videos" in page) == (videos == 400)


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_cut_off_in_a_real_browser(tmp_path, faces, width):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        pytest.skip("no chromium on this machine: the page is not rendered")
    table, truth = make_submission()
    images = [faces[i % 10] if seen else "" for i, seen in enumerate(table["face"])]
    make_report(
        tmp_path / "report.html",
        table,
        truth,
        images,
        record=record_of(["A warning of some length. " * 9], checkpoints="runs/" + "long" * 60),
    )
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    picture = tmp_path / "page.png"
    subprocess.run(
        [
            browser,
            *flags,
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},3000",
            f"--screenshot={picture}",
            (tmp_path / "report.html").as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    pixels = np.asarray(Image.open(picture).convert("L")).astype(int)
    assert pixels.shape[1] == width
    assert (pixels[:, -12:] == 255).all()  # what is too wide would run through the margin
    assert (pixels < 128).any(axis=1).mean() > 0.3  # and the page is not empty


def test_pictures_of_training_are_whole_png_files(tmp_path):
    matrix = np.arange(49).reshape(7, 7)
    save_confusion(tmp_path / "confusion.png", matrix, CHALLENGE, "Compounds")
    save_confusion(tmp_path / "empty.png", np.zeros((6, 6), int), list("abcdef"), "None")
    table = pd.DataFrame({"epoch": [1, 2, 1], "loss": [1.0, np.nan, 0.5], "f1": [0.1, 0.2, 0.3]})
    save_curves(tmp_path / "curves.png", table, ["loss", "f1"], "Two phases")
    for name in ("confusion.png", "empty.png", "curves.png"):
        with Image.open(tmp_path / name) as picture:
            picture.load()
            assert picture.format == "PNG" and min(picture.size) > 300
    assert len(list(tmp_path.iterdir())) == 3
