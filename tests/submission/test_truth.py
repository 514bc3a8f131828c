"""Time segments become frames by the video's own time stamps, whatever the frame rate."""

import json
from fractions import Fraction

import av
import pytest
from helpers.drawn import scene
from helpers.predicting import make_checkpoint
from helpers.running import call

from common.emotions import CHALLENGE
from common.script.files import UserError
from common.submission.truth import read_truth

SHOWN_MS = [0, 40, 80, 200, 240, 280, 320, 360, 700, 740]  # not evenly spaced
NAMES = [name.replace("_", " ") for name in CHALLENGE] + ["Other"]
HEADER = ",".join(
    f'"{name}"' for name in ("Begin Time - hh:mm:ss.ms", "End Time - hh:mm:ss.ms", *NAMES)
)


def segment(begin, end, name, mark='"1"'):
    marks = [mark if one == name else "" for one in NAMES]
    return ",".join([f"00:00:{begin:06.3f}", f"00:00:{end:06.3f}", *marks])


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "01.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, shown in enumerate(SHOWN_MS):
            picture = av.VideoFrame.from_ndarray(scene((120 + 8 * number, 120, 90)))
            picture.pts, picture.time_base = shown, stream.codec_context.time_base
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def test_a_frame_has_the_class_of_the_segment_that_contains_its_time_stamp(clip, tmp_path):
    rows = [
        segment(0, 0.08, "Fearfully Surprised", '"1 "'),
        segment(0.08, 0.25, "Sadly Angry"),  # touches the one before
        segment(0.24, 0.32, "Happily Surprised"),  # shares a frame with the one before
        segment(0.345, 0.355, "Sadly Fearful"),  # 10 ms between two frames
        segment(0.355, 0.365, "Disgustedly Surprised"),  # 10 ms around one
        segment(0.69, 0.72, "Other"),
    ]
    (tmp_path / "01.csv").write_text("\r\n".join([HEADER, *rows, ""]))
    truth = read_truth(tmp_path, {"01": clip})
    labels = {int(place[3:8]): known.label for place, known in truth.items()}
    assert labels == {1: 0, 2: 0, 3: 6, 4: 6, 5: 1, 6: 1, 8: 3, 9: -1}


@pytest.mark.parametrize(
    "rows, words",
    [
        ([segment(0, 1, "none")], "line 2: .* exactly one class"),
        ([segment(0, 1, "Other").replace(",,", ",1,", 1)], "line 2: .* exactly one class"),
        ([segment(0, 1, "Other", "x")], "line 2: .* exactly one class"),
        ([segment(1, 0.5, "Other")], "line 2: .* before it begins"),
        ([segment(0, 1, "Other").replace("00:00:01", "0:01")], "line 2: .* not a time"),
        (
            [segment(0, 0.3, "Other"), segment(0.2, 1, "Sadly Angry")],
            "line 3: overlaps line 2 by 3",
        ),
        ([HEADER], "line 2: .* not a time"),
    ],
)
def test_segments_of_wrong_form_are_refused_with_their_line(clip, tmp_path, rows, words):
    (tmp_path / "01.csv").write_text("\n".join([HEADER, *rows]))
    with pytest.raises(UserError, match=f"01.csv, {words}"):
        read_truth(tmp_path, {"01": clip})


@pytest.mark.parametrize(
    ("written", "instead", "differs"),
    [
        ('"Sadly Angry",', "", "differs in 'Sadly_Angry'"),
        ('"Sadly Angry"', '"Sadly Fearful"', "differs in 'Sadly_Angry', 'Sadly_Fearful'"),
        ("Begin", "Start", r"it begins with \['Start .*'\]\.$"),
    ],
)
def test_a_header_without_each_column_is_refused(clip, tmp_path, written, instead, differs):
    (tmp_path / "01.csv").write_text(HEADER.replace(written, instead))
    with pytest.raises(UserError, match=f"line 1: the header must be .* {differs}"):
        read_truth(tmp_path, {"01": clip})


def test_a_video_without_time_stamps_is_refused(clip, tmp_path):
    bare = tmp_path / "01.h264"  # a stream without a container
    with av.open(str(clip)) as source, av.open(str(bare), "w", format="h264") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    (tmp_path / "01.csv").write_text(f"{HEADER}\n{segment(0, 1, 'Other')}\n")
    with pytest.raises(UserError, match=r"01\.h264 have no time stamps"):
        read_truth(tmp_path, {"01": bare})


def test_segments_beyond_the_end_are_named(clip, tmp_path):
    (tmp_path / "01.csv").write_text(f"{HEADER}\n{segment(50, 51, 'Other')}\n")
    with pytest.raises(UserError, match=r"No frame lies in a segment of 01\.csv"):
        read_truth(tmp_path, {"01": clip})


def test_segments_score_and_tune_the_videos_they_label(clip, tmp_path, capsys):
    start, videos, truth = call(capsys), tmp_path / "videos", tmp_path / "segments"
    videos.mkdir(), truth.mkdir()
    make_checkpoint(tmp_path / "run" / "curriculum", 0)
    for name, label in (("01", "Sadly Angry"), ("02", "Happily Surprised"), ("03", "Other")):
        (truth / f"{name}.csv").write_text(f"{HEADER}\n{segment(0.04, 0.3, label)}\n")
    for name in ("01", "02"):
        (videos / f"{name}.mp4").write_bytes(clip.read_bytes())
    command = ["05_predict_submit.py", "--data-dir", tmp_path, "--run-dir", tmp_path / "run"]
    status, _, complaints = start(*command, "--truth", truth)
    assert status == 2 and "--videos must name the videos" in complaints
    status, _, complaints = start(*command, "--videos", videos, "--truth", truth)
    assert status == 0 and "03.csv labels a video that is not there" in complaints
    score = json.loads((tmp_path / "run" / "submission" / "score.json").read_text())
    assert score["frames"] == 10 and score["support"] == [0, 5, 0, 0, 0, 0, 5]
    status, output, _ = start(*command, "--videos", videos, "--tune", truth)
    assert status == 0 and "Tuned on 10 frames of 2 videos" in output
