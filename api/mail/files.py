"""Mail as it lies in files and folders: an mbox, a maildir, a folder of .eml files, a message, whatever a pipe gives.

Each input is opened once and read once, to its end: a pipe gives nothing a second time.
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from api.mail.mbox import FROM, MOST_BYTES, Mbox

_BOM = b"\xef\xbb\xbf"
_HEADER = re.compile(rb"[!-9;-~]+[ \t]*:")
_EMLX = re.compile(rb"\d+ *\r?\n")
_FLAGS = re.compile(r"[:;!]2,([A-Za-z]*)\Z")
"""Of a message in a maildir; not every file system takes the colon."""

_NO_MAIL = (
    (b"\x1f\x8b", "is compressed with gzip: unpack it first (gzip -d)"),
    (b"PK\x03\x04", "is a zip archive: unpack it first (unzip)"),
    (b"PK\x05\x06", "is an empty zip archive"),
    (b"BZh", "is compressed with bzip2: unpack it first (bzip2 -d)"),
    (b"\xfd7zXZ\x00", "is compressed with xz: unpack it first (xz -d)"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd: unpack it first (zstd -d)"),
    (b"7z\xbc\xaf", "is a 7z archive: unpack it first"),
    (b"\xff\xfe", "is text in UTF-16: a message is bytes, and its headers are ASCII or UTF-8"),
    (b"\xfe\xff", "is text in UTF-16: a message is bytes, and its headers are ASCII or UTF-8"),
    (b"\xd0\xcf\x11\xe0", "is a message of Outlook (.msg): save it as .eml"),
    (b"!BDN", "is a folder of Outlook (.pst): convert it to an mbox first"),
)
_NO_HEADER = "is no message: it does not begin with a header, such as `From: a@example.com`"
_TOO_LARGE = f"is larger than {MOST_BYTES >> 20} MiB: Kafka takes no such message"


@dataclass(frozen=True, slots=True)
class Mail:
    """One message: its bytes as they are, and where they come from, for people."""

    source: str
    data: bytes


@dataclass(frozen=True, slots=True)
class NoMail:
    """What should have been mail and is none, or can't be read; `why` completes a sentence about the source."""

    source: str
    why: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What is no mail to be sent, and is left out on purpose; `what` names its kind, in the plural."""

    source: str
    what: str


Found = Mail | NoMail | LeftOut


Place = tuple[int, int]
"""Where a file is, by device and inode: whatever it is called."""


def read_paths(paths: Iterable[Path]) -> Iterator[Found]:
    """What several files or folders hold, one after the other, as `read_path`; no file of them twice."""
    read: set[Place] = set()
    for path in paths:
        yield from read_path(path, read)


def read_path(path: Path, read: set[Place] | None = None) -> Iterator[Found]:
    """What a file or folder holds: an mbox, a maildir, a folder of .eml files, or one message.

    What is in `read` is left out, and what was read is put into it: nobody wants mail twice.

    A file is an mbox if it begins with `From ` and no colon behind it; any other file is one message. A folder with
    `cur` or `new` in it is a maildir; of any other one, and of the folders in it, the files whose names end in `.eml`
    are read, in any case.
    """
    read = set() if read is None else read
    if not os.path.isdir(path):
        yield from _read_file(path, read)
    elif os.path.isdir(path / "cur") or os.path.isdir(path / "new"):
        yield from _read_maildir(path, read)
    else:
        yield from _read_folder(path, read)


def read_stream(file: BinaryIO, source: str) -> Iterator[Found]:
    """What an open file holds, read to its end: an mbox or one message, without a UTF-8 mark in front of it.

    Raises:
        OSError: reading failed.
    """
    head = file.read(64 << 10).removeprefix(_BOM)
    if head.startswith(FROM) and not _HEADER.match(head):  # `From : a@b` is a header, if one that nobody writes now
        for number, data in enumerate(Mbox(file, head).messages(), 1):
            yield _checked(f"{source}, message {number}", data)
    else:
        data = head + file.read(MOST_BYTES + 1 - len(head))
        yield _checked(source, None if len(data) > MOST_BYTES else data)


def _checked(source: str, data: bytes | None) -> Found:
    if data is None:
        return NoMail(source, _TOO_LARGE)
    if not data[:1024].strip() and not data.strip():
        return LeftOut(source, "empty files or messages")
    if _HEADER.match(data):
        return Mail(source, data)
    for beginning, why in _NO_MAIL:
        if data.startswith(beginning):
            return NoMail(source, why)
    if (line := _EMLX.match(data)) and _HEADER.match(data, line.end()):
        return NoMail(source, "is a message as Apple Mail keeps it (.emlx): save it as .eml")
    return NoMail(source, _NO_HEADER)


def _read_file(path: Path, read: set[Place]) -> Iterator[Found]:
    try:
        status = os.stat(path)
        place = status.st_dev, status.st_ino
        if place in read:
            yield LeftOut(str(path), "names of files that were read by another name")
            return
        read.add(place)
        with open(path, "rb") as file:
            yield from read_stream(file, str(path))
    except OSError as error:
        yield _unreadable(path, error)


def _read_folder(folder: Path, read: set[Place]) -> Iterator[Found]:
    """The .eml files of a folder, and of all folders in it, in the order of their paths."""
    wrong: list[OSError] = []
    files: list[Path] = []
    others: list[LeftOut] = []
    for place, folders, names in os.walk(folder, onerror=wrong.append):
        hidden = {name for name in folders + names if name.startswith(".")}
        others += [LeftOut(str(Path(place, name)), "names that begin with a dot") for name in hidden]
        folders[:] = [name for name in folders if name not in hidden]
        for path in (Path(place, name) for name in names if name not in hidden):
            if path.suffix.lower() != ".eml":
                others.append(LeftOut(str(path), "files without .eml at the end of the name"))
            elif not os.path.isfile(path):
                others.append(LeftOut(str(path), "names of what is no file"))
            else:
                files.append(path)
    yield from (_unreadable(Path(error.filename or folder), error) for error in wrong)
    yield from others
    if not files and not wrong:
        yield NoMail(str(folder), "is neither a maildir nor a folder with .eml files")
    for path in sorted(files):
        yield from _read_file(path, read)


def _read_maildir(folder: Path, read: set[Place]) -> Iterator[Found]:
    """The messages in `new` and `cur`, in the order of their names, which begin with the time of their arrival."""
    names: list[tuple[str, str]] = []
    for part in ("new", "cur", "."):
        try:
            names += [(name, part) for name in os.listdir(folder / part)]
        except FileNotFoundError:
            continue  # copies and archives lose folders that are empty
        except OSError as error:
            yield _unreadable(folder / part, error)
    for name, part in sorted(names):
        path = folder / part / name
        if part == ".":
            if name.startswith(".") and os.path.isdir(path / "cur"):
                yield LeftOut(str(path), "folders of a maildir, which are maildirs of their own")
        elif (what := _not_wanted(path)) is not None:
            yield LeftOut(str(path), what)
        else:
            yield from _read_file(path, read)


def _not_wanted(path: Path) -> str | None:
    """What a file in a maildir is that is no mail to be sent; None for a message."""
    if path.name.startswith("."):
        return "names that begin with a dot"
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
        return "names of what is no file"
    flags = _FLAGS.search(path.name)
    if flags is None:
        return None
    return "drafts" if "D" in flags[1] else "trashed messages" if "T" in flags[1] else None


def _unreadable(path: Path, error: OSError) -> NoMail:
    return NoMail(str(path), f"can't be read: {error.strerror or error}")
