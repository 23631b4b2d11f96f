"""`xferq hash-password`: a line for the file of the API's users."""

import sys
from typing import Annotated

import typer

from api.users import user_line


def hash_password(
    user: Annotated[str, typer.Argument(metavar="USER", help="The user of the API.", show_default=False)],
) -> None:
    """Print a line for XFERQ_API_USERS_FILE: the user, and a hash of the password (argon2).

    Asks for the password on a terminal; otherwise reads the first line of standard input.

    Examples: `xferq hash-password alice >> users`, `xferq hash-password ci < password >> users`
    """
    try:
        print(user_line(user, _asked()))
    except UnicodeError:
        raise typer.BadParameter("the user or the password is not valid UTF-8") from None
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _asked() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    return sys.stdin.buffer.readline().decode().rstrip("\r\n")
