import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.domain.queue_name import XFER_SUFFIX, QueueName, is_xfer, validate_queue_name
from streams.domain.target import InvalidTarget, normalise_target, xfer_queue_of

from .strategies import texts


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://host", "http://host/"),
        ("HTTP://Host:80", "http://host/"),
        ("https://Host:443/", "https://host/"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/"),
        ("https://host.name:8008", "https://host.name:8008/"),
        ("http://[::1]:8000", "http://[::1]:8000/"),
        (" http://host\n", "http://host/"),
        ("http://host/a/../b", "http://host/b"),
        ("http://b\xfccher.example/\xfc", "http://xn--bcher-kva.example/%C3%BC"),
        ("http:\\\\host", "http://host/"),
    ],
)
def test_urls_are_normalised(url: str, target: str) -> None:
    assert normalise_target(url) == target
    assert xfer_queue_of(target) == target + ".xfer.kumomta.internal"


@pytest.mark.parametrize(
    ("url", "detail"),
    [
        ("", "not a valid URL"),
        ("host", "not a valid URL"),
        ("//host", "not a valid URL"),
        ("/path", "not a valid URL"),
        ("http://", "not a valid URL"),
        ("http://a b", "not a valid URL"),
        ("http://a\0b", "not a valid URL"),
        ("http://host:99999", "not a valid URL"),
        ("http://\ud800", "not a valid URL"),
        ("mailto:a@b", "http or https"),
        ("ftp://host", "http or https"),
        ("javascript:alert(1)", "http or https"),
        ("file:///etc/passwd", "http or https"),
        ("http://host/" + "x" * 1000, "too long"),
        ("http://host/" + "\xfc" * 200, "too long"),
    ],
)
def test_not_a_target(url: str, detail: str) -> None:
    with pytest.raises(InvalidTarget, match=detail):
        normalise_target(url)


@given(texts | st.text("htps:/.@#?%[]a1\\ ", max_size=30).map(lambda rest: "http://" + rest))
def test_normalising_twice_changes_nothing(url: str) -> None:
    try:
        target = normalise_target(url)
    except InvalidTarget:
        return
    assert normalise_target(target) == target
    queue = xfer_queue_of(target)
    assert validate_queue_name(queue) == queue
    assert is_xfer(queue)
    assert queue.removesuffix(XFER_SUFFIX) == target
    assert QueueName.parse(queue).format() == queue
