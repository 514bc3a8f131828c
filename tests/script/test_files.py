"""A file appears whole or not at all, and names from lists stay in their folder."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from common.script.files import (
    UserError,
    csv_rows,
    file_digest,
    inside,
    only_process,
    whole_file,
    write_csv,
    write_json,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("old", [None, b"old"])
def test_interrupted_write_leaves_the_old_file(tmp_path, old):
    path = tmp_path / "table.csv"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(KeyboardInterrupt), whole_file(path) as file:
        file.write(b"half of the new")
        raise KeyboardInterrupt
    assert (path.read_bytes() if path.exists() else None) == old
    assert [entry.name for entry in tmp_path.iterdir()] == ([path.name] if old else [])


def test_killed_process_leaves_the_old_file(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    script = (
        "import os, signal\nfrom common.script.files import whole_file\n"
        f"with whole_file({str(path)!r}, 'w') as file:\n"
        "    file.write('new' * 10_000)\n    file.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=os.getcwd(), check=False)
    assert ended.returncode == -9
    assert path.read_text() == "old"


def test_a_full_disk_is_said_with_the_file_though_torch_makes_another_error_of_it(tmp_path):
    script = (
        "import resource, signal, torch\nfrom common.script.files import whole_file\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "for size in (300, 128, 100, 64):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (size << 10, size << 10))\n"
        "    try:\n"
        f"        with whole_file({str(tmp_path / 'state.pt')!r}) as file:\n"
        "            torch.save({str(i): torch.zeros(20_000) for i in range(20)}, file)\n"
        "    except OSError as error:\n"
        "        print(error.filename, error.strerror)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.stdout == f"{tmp_path / 'state.pt'} File too large\n" * 4, ended.stderr
    assert not list(tmp_path.iterdir())


def test_new_file_appears_whole_with_its_folder_and_plain_line_ends(tmp_path):
    path = tmp_path / "a" / "b" / "list.txt"
    with whole_file(path, "w") as file:
        file.write("é\n")
        assert not path.exists()
    assert path.read_bytes() == "é\n".encode()
    assert [entry.name for entry in path.parent.iterdir()] == ["list.txt"]


def test_records_and_tables_are_written_whole_or_not_at_all(tmp_path):
    record, table, rows = tmp_path / "run.json", tmp_path / "table.csv", tmp_path / "rows.csv"
    write_json(record, {"name": "é", "epochs": [1, None]})
    write_csv(table, pd.DataFrame({"name": ["é", "a,b"], "score": [2 / 3, None]}))
    with csv_rows(rows, ["name", "score"]) as writer:
        writer.writerow(["é", "a,b"])
    assert record.read_bytes() == (
        b'{\n  "name": "\\u00e9",\n  "epochs": [\n    1,\n    null\n  ]\n}'
    )
    assert table.read_bytes() == 'name,score\né,0.666667\n"a,b",\n'.encode()
    assert rows.read_bytes() == 'name,score\né,"a,b"\n'.encode()

    before = [path.read_bytes() for path in (record, table, rows)]
    with pytest.raises(TypeError):
        write_json(record, {"name": "e", "epochs": {1, 2}})  # fails after the first half
    with pytest.raises(ValueError):
        write_csv(table, pd.DataFrame({"score": [0.5]}), float_format="%.6q")
    with pytest.raises(OSError), csv_rows(rows, ["name"]) as writer:
        raise OSError
    assert [path.read_bytes() for path in (record, table, rows)] == before
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("name", ["../x.jpg", "a/../../x.jpg", "/etc/passwd", "a\0b"])
def test_names_that_leave_the_folder_are_refused(tmp_path, name):
    with pytest.raises(UserError, match="outside"):
        inside(tmp_path, name)


def test_names_inside_the_folder_are_joined(tmp_path):
    assert inside(tmp_path, "a/b..jpg") == tmp_path / "a" / "b..jpg"


def test_digest_is_sha256(tmp_path):
    (tmp_path / "f").write_bytes(b"x" * 100_000)
    assert file_digest(tmp_path / "f") == hashlib.sha256(b"x" * 100_000).hexdigest()


def test_a_folder_is_one_process_alone(tmp_path):
    folder = tmp_path / "run"
    ask = (
        "import sys; from common.script.files import only_process\n"
        "with only_process(sys.argv[1]): pass"
    )
    command = [sys.executable, "-c", ask, str(folder)]
    with only_process(folder):
        other = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert other.returncode == 1
        assert f"(process {os.getpid()}) works in {folder}" in other.stderr
    assert subprocess.run(command, cwd=ROOT).returncode == 0


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    ask = (
        "import os, signal, sys; from common.script.files import only_process\n"
        "with only_process(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", ask, str(tmp_path)], cwd=ROOT)
    assert killed.returncode < 0
    with only_process(tmp_path):
        assert (tmp_path / ".lock").read_text().startswith(f"{os.getpid()} ")
