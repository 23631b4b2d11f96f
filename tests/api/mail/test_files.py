"""Files and folders with mail: what is read, left out, or named as none. What files hold: see examples.py."""

import io
import mailbox
import os
import threading
from collections import Counter
from pathlib import Path

import pytest

from api.mail import files
from api.mail.files import LeftOut, Mail, NoMail, read_path, read_paths, read_stream

MAIL = b"From: a@s.example\nTo: b@x.example\n\nbody\n"


def put(folder: Path, **contents: bytes) -> None:
    """Files by name; `__` in a name stands for what can't be in one of Python's."""
    for name, data in contents.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def sources(path: Path) -> list[str]:
    """The messages that are read, by where they come from below the path."""
    return [found.source.removeprefix(f"{path}/") for found in read_path(path) if isinstance(found, Mail)]


def left_out(path: Path) -> Counter[str]:
    return Counter(found.what for found in read_path(path) if isinstance(found, LeftOut))


def refused(path: Path) -> dict[str, str]:
    return {found.source.removeprefix(f"{path}/"): found.why for found in read_path(path) if isinstance(found, NoMail)}


def test_a_folder(tmp_path: Path) -> None:
    for name in ("one.eml", "deep/two.EML", "deep/er/three.Eml", ".hidden.eml", "._one.eml", ".trash/four.eml"):
        put(tmp_path, **{name.replace("/", "__"): MAIL})
    put(tmp_path, **{"empty.eml": b"", "other.txt": b"no mail", "one.eml.gz": b"\x1f\x8b", "no.eml": b"\x1f\x8b"})
    os.mkfifo(tmp_path / "pipe.eml")
    (tmp_path / "nowhere.eml").symlink_to(tmp_path / "not there")
    (tmp_path / "link.eml").symlink_to(tmp_path / "one.eml")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "folder.eml").mkdir()
    assert sources(tmp_path) == ["deep/er/three.Eml", "deep/two.EML", "link.eml"]
    assert left_out(tmp_path) == {
        "names that begin with a dot": 3,
        "empty files or messages": 1,
        "files without .eml at the end of the name": 2,
        "names of what is no file": 2,
        "names of files that were read by another name": 1,
    }
    assert refused(tmp_path) == {"no.eml": "is compressed with gzip: unpack it first (gzip -d)"}


def test_a_maildir(tmp_path: Path) -> None:
    for name in ("cur/1.a:2,S", "new/2.b", "cur/3.c", "cur/4.d:2,FRS", "cur/5.e;2,S", "cur/6.f!2,", "cur/7.g:2,Sab"):
        put(tmp_path, **{name.replace("/", "__"): MAIL})
    for name in ("cur/1.d:2,DS", "cur/2.t:2,ST", "cur/3.t;2,T", "cur/.nfs0001", "new/._x", "tmp/x", "dovecot.index"):
        put(tmp_path, **{name.replace("/", "__"): MAIL})
    put(tmp_path, **{".Sent__cur__1.a:2,S": MAIL, "cur__folder__x": MAIL, "cur__empty": b""})
    os.mkfifo(tmp_path / "cur" / "pipe")
    assert sources(tmp_path) == [
        "cur/1.a:2,S", "new/2.b", "cur/3.c", "cur/4.d:2,FRS", "cur/5.e;2,S", "cur/6.f!2,", "cur/7.g:2,Sab"
    ]  # fmt: skip
    assert left_out(tmp_path) == {
        "drafts": 1,
        "trashed messages": 2,
        "names that begin with a dot": 2,
        "empty files or messages": 1,
        "names of what is no file": 2,
        "folders of a maildir, which are maildirs of their own": 1,
    }
    assert refused(tmp_path) == {}


def test_a_maildir_as_others_write_it(tmp_path: Path) -> None:
    box = mailbox.Maildir(tmp_path / "box", create=True)
    keys = [box.add(f"Subject: {number}\n\n".encode()) for number in range(5)]
    for key, flags in zip(keys, ("D", "T", "S", "FRS", ""), strict=True):
        message = box[key]
        message.set_flags(flags)
        message.set_subdir("cur" if flags else "new")
        box[key] = message
    found = [found.data for found in read_path(tmp_path / "box") if isinstance(found, Mail)]
    assert sorted(found) == [b"Subject: 2\n\n", b"Subject: 3\n\n", b"Subject: 4\n\n"]
    assert left_out(tmp_path / "box") == {"drafts": 1, "trashed messages": 1}


@pytest.mark.parametrize("part", ["cur", "new"])
def test_a_maildir_that_has_lost_an_empty_folder(tmp_path: Path, part: str) -> None:
    put(tmp_path, **{f"{part}__1": MAIL})
    assert sources(tmp_path) == [f"{part}/1"]


def test_an_mbox_as_others_write_it(tmp_path: Path) -> None:
    box = mailbox.mbox(tmp_path / "box", create=True)
    bodies = [b"one\n", b"From here on\n", b"\n\n", b"x"]
    for body in bodies:
        box.add(b"From: a@s.example\nTo: b@x.example\n\n" + body)
    box.close()
    before = (tmp_path / "box").read_bytes()
    found = [found for found in read_path(tmp_path / "box") if isinstance(found, Mail)]
    assert [mail.data.partition(b"\n\n")[2] for mail in found] == [b"one\n", b">From here on\n", b"\n\n", b"x\n"]
    assert [mail.source for mail in found] == [f"{tmp_path / 'box'}, message {number}" for number in (1, 2, 3, 4)]
    assert (tmp_path / "box").read_bytes() == before


@pytest.mark.parametrize("data", [MAIL, MAIL + b"x" * 200_000, b"From a\n" + MAIL + b"x" * 200_000 + b"\n"])
def test_a_pipe_is_read_whole(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)

    def write() -> None:
        with path.open("wb", buffering=0) as file:
            for at in range(0, len(data), 5_000):
                file.write(data[at : at + 5_000])

    writer = threading.Thread(target=write)
    writer.start()
    (found,) = read_path(path)
    writer.join()
    assert isinstance(found, Mail)
    assert data.removeprefix(b"From a\n") == found.data


def test_what_is_no_mail(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    put(tmp_path, text=b"hello")
    paths = [tmp_path / name for name in ("nope", "empty", "text")]
    assert list(read_paths(paths)) == [
        NoMail(str(tmp_path / "nope"), "can't be read: No such file or directory"),
        NoMail(str(tmp_path / "empty"), "is neither a maildir nor a folder with .eml files"),
        NoMail(str(tmp_path / "text"), files._NO_HEADER),
    ]


def test_no_file_is_read_twice(tmp_path: Path) -> None:
    put(tmp_path, **{"a__1.eml": MAIL, "a__b__2.eml": MAIL, "box__cur__1": MAIL, "box__.Sent__cur__2": MAIL})
    paths = ["a/1.eml", "a", "a/b", "a/b/2.eml", "box", "box/.Sent", "box/cur/1"]
    found = list(read_paths(tmp_path / path for path in paths))
    read = [item.source.removeprefix(f"{tmp_path}/") for item in found if isinstance(item, Mail)]
    assert read == ["a/1.eml", "a/b/2.eml", "box/cur/1", "box/.Sent/cur/2"]
    twice = "names of files that were read by another name"
    assert [item.what for item in found if isinstance(item, LeftOut)].count(twice) == 4


def test_what_may_not_be_read_stops_nothing(tmp_path: Path) -> None:
    put(tmp_path, **{"a.eml": MAIL, "b.eml": MAIL, "c.eml": MAIL})

    def opened(path: Path, *rest: object) -> io.BytesIO:
        if path.name == "b.eml":
            raise PermissionError(13, "Permission denied", str(path))
        return io.BytesIO(path.read_bytes())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.open", opened)
        found = list(read_path(tmp_path))
    assert [type(item) for item in found] == [Mail, NoMail, Mail]
    assert found[1] == NoMail(str(tmp_path / "b.eml"), "can't be read: Permission denied")


def test_an_mbox_that_breaks_off(tmp_path: Path) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            if not data:
                raise OSError(5, "Input/output error")
            return data

    found = []
    with pytest.raises(OSError, match="Input/output"):
        found.extend(read_stream(Broken(b"From a\n" + MAIL), "box"))
    assert found == []


def test_one_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_BYTES", 100_000)
    (found,) = read_stream(io.BytesIO(MAIL + b"x" * 100_000), "file")
    assert isinstance(found, NoMail)
    assert "is larger than" in found.why
