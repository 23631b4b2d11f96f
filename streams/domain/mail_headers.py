"""The headers of a message: those of some names, unfolded and decoded.

The rules are KumoMTA's (`extract_fields` in crates/kumod/src/logging/mod.rs, `Header::as_unstructured` in
crates/mailparsing): names in any case, a value for each time that a header is there, runs of white space as one space,
encoded words (RFC 2047) decoded one by one, and left as they are where they can't be. Where KumoMTA carries no header
at all, as one of them is malformed, the others are carried here.
"""

import re
from binascii import Error, a2b_base64, a2b_qp
from collections.abc import Iterable, Iterator
from encodings.aliases import aliases

_MOST_BYTES = 128 << 10
"""What is logged is found in so much of a message: JSON makes six times that of it at most, and Kafka takes it."""

HEADERS_END = re.compile(rb"(?:\A|\n)\r?\n")
"""Where a message's headers end: at its first empty line."""
_BREAKS = re.compile("[\r\n]+")
_BLANKS = re.compile("[ \t]+")
# No longer than a line may be (RFC 5322), as some decoders take the square of it.
_WORD = re.compile(r"=\?([^?* ]{1,40})(?:\*[^? ]{0,40})?\?([BbQq])\?([^? ]{1,998})\?=")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
# Python looks for a module of each name that it does not know, and never forgets one: names come from anybody's mail.
_CHARSETS = frozenset(aliases) | frozenset(aliases.values()) | {"koi8_t", "koi8_u", "cp874", "cp1006"}


class HeaderNames:
    """Names of headers to look for; one that ends in `*` stands for all that begin like it. In any case."""

    def __init__(self, names: Iterable[str]) -> None:
        """Of these names."""
        patterns = [
            re.escape(name.removesuffix("*").encode(errors="replace")) + rb"[!-9;-~]*" * name.endswith("*")
            for name in names
        ]
        self._pattern = re.compile(
            rb"^(%b)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)" % b"|".join(patterns), re.IGNORECASE | re.MULTILINE
        )

    def fields(self, message: bytes, within: int | None = None) -> Iterator[tuple[str, bytes]]:
        """The headers of these names that a message has, in their order: the name as written, and the raw value.

        Args:
            message: a message, or its headers.
            within: how many bytes of it are searched.
        """
        most = len(message) if within is None else within
        end = HEADERS_END.search(message, 0, most)
        for field in self._pattern.finditer(message, 0, end.start() + 1 if end else most):
            name, value = field.groups()
            yield name.decode(), value

    def logged(self, message: bytes) -> dict[str, str | list[str]]:
        """The same as a log record has it: under a name's first spelling a string, or the list of several.

        Decoded; no string has a lone surrogate.
        """
        found: dict[str, tuple[str, list[str]]] = {}
        for name, value in self.fields(message, _MOST_BYTES):
            found.setdefault(name.lower(), (name, []))[1].append(decoded(value))
        return {name: values[0] if len(values) == 1 else values for name, values in found.values()}


def unfolded(raw: bytes) -> str:
    """A header's value on one line, without white space at its ends; bytes that are not UTF-8 become U+FFFD."""
    return _BLANKS.sub(" ", _BREAKS.sub("", raw.decode(errors="replace"))).strip(" ")


def decoded(raw: bytes) -> str:
    """The same with its encoded words decoded; white space between two of them goes with them."""
    text = unfolded(raw)
    if "=?" not in text:
        return text
    parts: list[str] = []
    end = 0
    for word in _WORD.finditer(text):
        content = _content(*word.groups())
        if content is not None:
            between = text[end : word.start()]
            parts += [content] if end and between == " " else [between, content]
            end = word.end()
    return "".join([*parts, text[end:]])


def _content(charset: str, encoding: str, text: str) -> str | None:
    """What an encoded word says; None where that can't be told."""
    if charset.lower().replace("-", "_") not in _CHARSETS:
        return None
    try:
        if encoding in "Qq":
            data = a2b_qp(text.encode(), header=True)
        elif _BASE64.fullmatch(text):
            data = a2b_base64(text + "=" * (-len(text) % 4))
        else:
            return None
        content = data.decode(charset)
        content.encode()  # UTF-7 can say lone surrogates
    except (Error, LookupError, UnicodeError):
        return None
    return content
