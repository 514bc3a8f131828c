"""Random faults of files: bytes that turn, lines that go, fields that nobody expected."""

from __future__ import annotations

import random
from collections.abc import Callable

EXTREMES = (
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\0\0\0\x80",
)
NASTY = (
    *("", " ", "-1", "0", "1e999", "nan", "inf", "-0", "9" * 400, "²", "٣", "1_0", "0x1", "True"),
    *("../../outside.jpg", "/etc/passwd", "..", ".", "a/../../b.jpg", "\\\\x\\y", "C:x", "CON"),
    *("\0", "\r", "\u2028", "\ufeff", '"', "'", '"",', ",,,,", ";", "\t", "é", "\ud7ff", "💥"),
    *("=1+1", "%s%n", "{0}", "<b>", "a" * 5000, "Happiness Anger Fear", "00001.jpg", "-", "#"),
)


def damage(content: bytes, chance: random.Random, text: bool) -> bytes:
    """Return a file's content with one to four random faults."""
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        fault = chance.choice(TEXT_FAULTS if text and chance.random() < 0.8 else BYTE_FAULTS)
        content = fault(content, chance)
    return content


def _place(content: bytes, chance: random.Random) -> int:
    # Half of the faults hit the first hundred bytes, where formats keep what matters.
    end = min(len(content), 100) if chance.random() < 0.5 else len(content)
    return chance.randrange(end) if end else 0


def flip(content, chance):
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 8, 64))):
        if changed:
            changed[_place(content, chance)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def cut(content, chance):
    return content[: _place(content, chance)]


def remove(content, chance):
    at = _place(content, chance)
    return content[:at] + content[at + chance.choice((1, 4, 100, 5000)) :]


def repeat(content, chance):
    at = _place(content, chance)
    return content[:at] + content[at : at + 100] * chance.choice((2, 50)) + content[at:]


def insert(content, chance):
    at = _place(content, chance)
    return content[:at] + chance.randbytes(chance.choice((1, 4, 1000))) + content[at:]


def set_extreme(content, chance):
    at = _place(content, chance)
    return content[:at] + chance.choice(EXTREMES) + content[at + 4 :]


def _change_line(content, chance, change: Callable[[bytes], list[bytes]]):
    lines = content.splitlines(keepends=True) or [b"\n"]
    at = chance.randrange(len(lines))
    return b"".join([*lines[:at], *change(lines[at]), *lines[at + 1 :]])


def change_field(content, chance):
    def change(line):
        separator = max(b", \t;/:", key=lambda sign: line.count(bytes([sign])))
        fields = line.rstrip(b"\r\n").split(bytes([separator]))
        fields[chance.randrange(len(fields))] = chance.choice(NASTY).encode("utf-8")
        return [bytes([separator]).join(fields) + b"\n"]

    return _change_line(content, chance, change)


def drop_line(content, chance):
    return _change_line(content, chance, lambda line: [])


def double_line(content, chance):
    return _change_line(content, chance, lambda line: [line, line])


def nasty_line(content, chance):
    new = chance.choice(NASTY).encode() * chance.choice((1, 3)) + b"\n"
    return _change_line(content, chance, lambda line: [line, new])


def recode(content, chance):
    return content.decode("utf-8", "replace").encode(
        chance.choice(("utf-16", "gbk", "utf-8-sig")), "replace"
    )


BYTE_FAULTS = (flip, flip, cut, remove, repeat, insert, set_extreme, lambda c, r: b"")
TEXT_FAULTS = (change_field, change_field, change_field, drop_line, double_line, nasty_line, recode)
TEXTS = (".txt", ".csv", ".json", ".lst", ".toml", ".idx")
