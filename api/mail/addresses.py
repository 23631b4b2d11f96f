"""Addresses, in the headers of mail and as people write them: RFC 5322 and, for addresses beyond ASCII, RFC 6532.

Python's own parsers differ from version to version (cpython issues 102988, 122600), drop what they can't read, and take
`a b@c` or an encoded word for another address than it is. Here whatever is not surely an address is told apart.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

# What a quote or a bracket opens and nothing closes reaches to the end: no character is looked at twice.
_LEXEME = re.compile(
    r"""(?P<quoted>"(?:[^"\\]|\\.)*(?P<quote>")?)|(?P<literal>\[[^\]]*(?P<bracket>\])?)"""
    r"""|(?P<sign>[<>@,;:.])|(?P<blank>[ \t\r\n]+)|(?P<comment>\()|(?P<atom>[^][()<>@,;:.\\" \t\r\n]+)|(?P<stray>.)""",
    re.DOTALL,
)
_IN_COMMENT = re.compile(r"\\.|[()]", re.DOTALL)
# By number, as `str.isprintable` goes by the Unicode of the Python that runs: controls, separators, invisible signs
# that change how a line is shown, what could not be decoded.
_NEVER = re.compile(
    "[\x00-\x1f\x7f-\xa0\xad\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ud800-\udfff\ufeff\ufff9-\uffff]"
)
_DOMAIN = re.compile(r"(?:[A-Za-z0-9_-]|[^\x00-\x7f])+(?:\.(?:[A-Za-z0-9_-]|[^\x00-\x7f])+)*")
_LITERAL = re.compile(r"\[[!-Z^-~]+\]")


class Addresses(NamedTuple):
    """The addresses of a list, each once and in order, and what stands in it where an address should."""

    found: list[str]
    unreadable: list[str]


class _Lexeme(NamedTuple):
    kind: str
    text: str


def parse_addresses(text: str) -> Addresses:
    """The addresses of a header's value, as an SMTP envelope has them: names, comments and groups are left out.

    A local part stays as it is written: in quotes where it is in quotes, and with the dots that RFC 5322 does not
    permit. Semicolons separate addresses as commas do.
    """
    found: dict[str, None] = {}
    unreadable: list[str] = []
    for entry in _entries(text):
        if all(lexeme.kind == "blank" for lexeme in entry):
            continue
        address = _address(entry)
        if address is not None:
            found[address] = None
        else:
            unreadable.append("".join(lexeme.text for lexeme in entry).strip(" \t\r\n"))
    return Addresses(list(found), unreadable)


def parse_address(text: str) -> str | None:
    """The one address that the text is, by itself or as `Name <address>`; None where it is none, or several."""
    found, unreadable = parse_addresses(text)
    return found[0] if len(found) == 1 and not unreadable else None


def _lexemes(text: str) -> Iterator[_Lexeme]:
    at = 0
    while lexeme := _LEXEME.match(text, at):
        kind, at = lexeme.lastgroup or "", lexeme.end()
        if (kind == "quoted" and not lexeme["quote"]) or (kind == "literal" and not lexeme["bracket"]):
            kind = "stray"  # not closed
        elif kind == "comment":
            kind, at = "blank", _end_of_comment(text, at)
        yield _Lexeme(lexeme[0] if kind == "sign" else kind, text[lexeme.start() : at])


def _end_of_comment(text: str, at: int) -> int:
    """Behind the bracket that closes the comment; comments may be nested, and end with the text."""
    depth = 1
    for sign in _IN_COMMENT.finditer(text, at):
        depth += {"(": 1, ")": -1}.get(sign[0], 0)
        if not depth:
            return sign.end()
    return len(text)


def _entries(text: str) -> Iterator[list[_Lexeme]]:
    """What the list has between its separators, without the names of groups."""
    entry: list[_Lexeme] = []
    in_angle = has_at = False
    for lexeme in _lexemes(text):
        # A colon ends the name of a group, where it is no part of an address.
        if in_angle or lexeme.kind not in ",;:" or (lexeme.kind == ":" and has_at):
            entry.append(lexeme)
            in_angle = lexeme.kind == "<" or (in_angle and lexeme.kind != ">")
            has_at = has_at or lexeme.kind == "@"
            continue
        if lexeme.kind != ":":
            yield entry
        entry, has_at = [], False
    yield entry


def _address(entry: list[_Lexeme]) -> str | None:
    """The address of an entry, which may have a name before it; None where it is not surely one."""
    kinds = [lexeme.kind for lexeme in entry]
    if "<" in kinds or ">" in kinds:
        significant = [lexeme for lexeme in entry if lexeme.kind != "blank"]
        if kinds.count("<") != 1 or kinds.count(">") != 1 or significant[-1].kind != ">":
            return None
        entry = entry[kinds.index("<") + 1 : kinds.index(">")]
        kinds = [lexeme.kind for lexeme in entry if lexeme.kind != "blank"]
        if kinds[:1] == ["@"] and ":" in kinds:  # the route of RFC 822, which nobody takes any more
            entry = entry[[lexeme.kind for lexeme in entry].index(":") + 1 :]
    ats = [index for index, lexeme in enumerate(entry) if lexeme.kind == "@"]
    if len(ats) != 1:
        return None
    local, domain = _joined(entry[: ats[0]], "quoted"), _joined(entry[ats[0] + 1 :], "literal")
    if local is None or domain is None or not local.strip(".") or _NEVER.search(local + domain):
        return None
    return f"{local}@{domain}" if (_LITERAL if domain[0] == "[" else _DOMAIN).fullmatch(domain) else None


def _joined(lexemes: list[_Lexeme], also: str) -> str | None:
    """Words and the dots between them, without blanks; None where there is anything else, or two words in a row."""
    parts: list[_Lexeme] = [lexeme for lexeme in lexemes if lexeme.kind != "blank"]
    words = [lexeme.kind != "." for lexeme in parts]
    if not parts or any(lexeme.kind not in ("atom", ".", also) for lexeme in parts):
        return None
    if any(one and other for one, other in pairwise(words)):
        return None
    return "".join(lexeme.text for lexeme in parts)
