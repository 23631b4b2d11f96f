"""The folders of the user who runs xferq, as the XDG Base Directory Specification has them."""

import os
from pathlib import Path

from streams.errors import Misconfigured


def user_folder(variable: str, default: str) -> Path:
    """The folder that an XDG variable names, else the default one in the user's home.

    Raises:
        Misconfigured: the user has no home, as in some containers.
    """
    folder = os.environ.get(variable, "")
    if os.path.isabs(folder):
        return Path(folder)
    try:
        return Path.home() / default
    except RuntimeError:
        raise Misconfigured(f"this user has no home folder: HOME or {variable} has to name one") from None


def expanded(path: Path) -> Path:
    """The path with the home folder that it begins with (`~`) written out, absolute.

    Raises:
        Misconfigured: there is no such home.
    """
    try:
        return path.expanduser().absolute()
    except RuntimeError:
        raise Misconfigured(f"{path}: there is no such home folder") from None
