"""Small sets of unlabelled faces, each as its owners ship it, traps included."""

from __future__ import annotations

import io
import struct

import numpy as np
from helpers.raw_files import image, text
from PIL import Image
from scipy.io import savemat


def celeba_tree(root, mirror=False):
    names = [f"{n:06d}.jpg" for n in range(1, 5)]
    images = root / "img_align_celeba"
    for name in names[:3]:
        image((images / "img_align_celeba" if mirror else images) / name)
    rows = [(names[0], 0), (names[1], 1), (names[2], 2), (names[3], 0)]
    if mirror:
        body = "image_id,partition\n" + "\n".join(f"{n},{s}" for n, s in rows)
        text(root / "list_eval_partition.csv", body)
        return root
    text(root / "list_eval_partition.txt", "\r\n".join(f"{n} {s}" for n, s in rows) + "\r\nx 7")
    text(root / "identity_CelebA.txt", f"{names[0]} 2880\n{names[1]} 2880\nodd row here\n")
    return root


def imdb_rows():
    """Names, scores and second scores: used, no face, low, two faces, gone, outside, twice."""
    return [
        ("01/nm0000001_rm124825600_1899-5-10_1968.jpg", 1.46, np.nan),
        ("01/nm0000001_rm2_1899-5-10_1970.jpg", -np.inf, np.nan),
        ("02/nm0000002_rm3_1924-9-16_2004.jpg", 0.99, np.nan),
        ("02/nm0000002_rm4_1924-9-16_2004.jpg", 5.0, 1.2),
        ("02/nm0000002_rm5_1924-9-16_2004.jpg", 5.0, np.nan),
        ("../nm0000003_rm6_1924-9-16_2004.jpg", 5.0, np.nan),
        ("01/nm0000001_rm124825600_1899-5-10_1968.jpg", 1.46, np.nan),
    ]


def imdbwiki_tree(root):
    for name, rows in (
        ("imdb", imdb_rows()),
        ("wiki", [("17/10000217_1981-05-05_2009.jpg", 4, np.nan)]),
    ):
        place = root / f"{name}_crop"
        paths = np.empty((1, len(rows)), dtype=object)
        paths[0] = [row[0] for row in rows]
        table = {
            "full_path": paths,
            "face_score": np.array([[row[1] for row in rows]], dtype=float),
            "second_face_score": np.array([[row[2] for row in rows]], dtype=float),
            "dob": np.zeros((1, len(rows))),
        }
        for path, *_ in rows:
            if "rm5" not in path:
                image(place / path)
        savemat(place / f"{name}.mat", {name: table})
    return root


def jpeg_bytes(side=20, gray=90):
    file = io.BytesIO()
    Image.new("L", (side, side), gray).save(file, "JPEG")
    return file.getvalue()


RECORD_MAGIC = struct.pack("<I", 0xCED7230A)


def record(payload, part=0):
    head = RECORD_MAGIC + struct.pack("<I", part << 29 | len(payload))
    return head + payload + bytes(-len(payload) % 4)


def image_header(label, flag=0):
    return struct.pack("<IfQQ", flag, label, 1, 0)


def recordio_tree(root):
    """Two persons with three images, one of which holds the magic number; then their own rows."""
    split = image_header(7.0) + jpeg_bytes(gray=200)
    content = [
        record(image_header(4.0, flag=2) + struct.pack("<2f", 4, 6)),
        record(image_header(3.0) + jpeg_bytes()),
        record(image_header(3.0) + jpeg_bytes(gray=10)),
        record(split, part=1) + record(b"tail", part=3),
        record(image_header(5.0, flag=2) + struct.pack("<2f", 1, 3)),
        record(image_header(6.0, flag=2) + struct.pack("<2f", 3, 4)),
    ]
    root.mkdir(parents=True)
    (root / "train.rec").write_bytes(b"".join(content))
    text(root / "train.idx", "0\t0\n")
    return root


def faces_tree(root):
    for name in ("WebFace42M_Root/0_0_0000000/0_0.jpg", "WebFace42M_Root/1_0_0000001/1_1.jpg"):
        image(root / name)
    text(root / "README.txt", "words")
    return root


def casia_tree(root):
    for person in range(3):
        for number in range(2):
            image(root / f"{person:07d}" / f"{number:03d}.jpg")
    return root
