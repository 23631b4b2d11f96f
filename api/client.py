"""A client of the API, for the command line and for programs in Python: docs/examples/client.py. It needs no Kafka.

Errors are those of `streams.errors`, in words for a person: `Refused` where asking again does not help, `Unavailable`
where it may.
"""

import math
import ssl
import time
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from api.commands import ENDPOINTS, STATUS_PATH
from api.embedded import api_url
from api.models import CommandStatus
from api.tls import client_context
from api.transport import Answer, NoAnswer, NoAnswerInTime, NotReached, Transport
from streams.domain.command import CRITERIA, ID_RULE, is_command_id
from streams.domain.transitions import ENDED
from streams.errors import Refused, Unavailable, XferqError
from streams.settings.settings import Settings

_TIMEOUT_S = 60.0
_CONNECT_S = 5.0
_LEAST_S = 2.0
"""For one answer, however little time there is."""
_POLL_S = (0.1, 0.2, 0.5)
_PATIENCE_S = 60.0
_LATEST = 1000
_READY_S = 2.0
"""A wait for an answer that is quick or none: what listens there may be no api."""


class ApiClient:
    """A client of one API; also a context manager."""

    def __init__(self, url: str, *, user: tuple[str, str] | None = None, tls: ssl.SSLContext | None = None) -> None:
        """Connect to nothing yet.

        Args:
            user: a user and the password; None: those in the URL, if there are any.
            tls: None: as the system does it.
        """
        self.url = without_credentials(url)
        try:
            self._transport = Transport(url, user=user, tls=tls)
        except ValueError as error:
            # Where it has a password, a part of that may be what is wrong.
            why = "" if "@" in url else f": {error}"
            raise Unavailable(f"XFERQ_API_URL: {self.url} is not a URL{why}") from None

    @classmethod
    def of(cls, settings: Settings) -> "ApiClient":
        """A client of the API that the settings name, as who they say.

        Raises:
            InvalidSettings: a certificate can't be used.
            Unavailable: the URL is none.
        """
        url = api_url(settings)
        word = settings.client_password
        user = (settings.client_user or "", word.get_secret_value()) if word else None
        return cls(url, user=user, tls=client_context(settings) if url.startswith("https:") else None)

    def __enter__(self) -> "ApiClient":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing stays open between requests."""

    def is_ready(self) -> bool:
        """Whether it can take commands now.

        Raises:
            Refused: it does not let us in.
        """
        try:
            self.health()
        except Unavailable:
            return False
        return True

    def health(self) -> Mapping[str, Any]:
        """What /readyz says of an API that can take commands: see `api.health.Health`.

        Raises:
            Refused: it does not let us in.
            Unavailable: it is not there, or can't take commands now.
        """
        found = self._json("GET", "/readyz", timeout_s=_READY_S)
        if not isinstance(found, dict):
            raise self._not_ours()
        return found

    def submit(self, type: str, body: Mapping[str, object], id: str | None = None) -> str:
        """Ask for a command of this type; its id.

        Raises:
            Refused: the API does not take it.
            Unavailable: the API is not there, or has no Kafka.
        """
        key = id or uuid.uuid4().hex
        try:
            self._json("POST", ENDPOINTS[type].path, body=body, headers={"Idempotency-Key": key})
        except Unavailable as error:
            raise Unavailable(f"{error}. To repeat exactly this command: --id {key}") from error
        return key

    def cancel(self, queue_name: str, reason: str, *, id: str | None = None, **more: object) -> str:
        """Ask for a cancel of this xfer queue; the command's id. Raises as `submit`.

        Args:
            id: makes it the same cancel, however often it is asked for; by default a new one.
            more: other fields of the request, such as `expires_at`.
        """
        return self.submit("xfer.cancel", {"queue_name": queue_name, "reason": reason, **more}, id)

    def transfer(self, target: str, reason: str, *, id: str | None = None, **criteria: object) -> str:
        """Ask for a transfer to this target; the command's id. Raises as `submit`.

        Args:
            id: as of `cancel`.
            criteria: which queues: `campaign`, `tenant`, `domain`, `routing_domain` or `queue_names`; `everything=True`
                for all; and other fields of the request, such as `expires_at`. None counts as not given.

        Raises:
            Refused: no criterion is given, nor `everything`.
        """
        given = {name: value for name, value in criteria.items() if value is not None}
        if not given.get("everything") and not given.keys() & CRITERIA:
            raise Refused(f"which queues? one of {', '.join(CRITERIA)} has to be given, or everything=True")
        return self.submit("xfer.start", {"target": target, "reason": reason, **given}, id)

    def wait(self, id: str, timeout_s: float = math.inf) -> CommandStatus:
        """The status of the command once it is done or refused: the latter is no error here.

        Raises:
            Refused: the API knows no such command, or does not let us in.
            Unavailable: it has not ended within the time, or the API is away for a minute, or until the time is over.
                The command goes on.
        """
        ends_at = time.monotonic() + timeout_s
        for status in StatusFeed(self, id, ends_at):
            if status.state not in ENDED and time.monotonic() > ends_at:
                raise Unavailable(f"{id} has not ended within {timeout_s:.0f} s: it is {status.state}")
        return status

    def status(self, id: str, *, timeout_s: float = _TIMEOUT_S) -> CommandStatus:
        """One command's status. Raises as `submit`."""
        return self._status(self._json("GET", self._path_of(id), timeout_s=timeout_s))

    def whole_id(self, id: str) -> str:
        """The id of the one of the last thousand commands whose id begins so; what is the id of one is that one's.

        Raises:
            Refused: there is none, or more than one.
        """
        try:
            return self.status(id).id
        except Unavailable:
            return id  # whoever asks next is told, or waits
        except Refused:
            found = [status.id for status in self.statuses(limit=_LATEST) if status.id.startswith(id)]
            if not found:
                raise
            if len(found) > 1:
                raise Refused(f"{len(found)} commands have an id that begins with {id}") from None
            return found[0]

    def withdraw(self, id: str, reason: str | None) -> None:
        """See that a command does not begin any more. Raises as `submit`; Refused, too, where it has begun."""
        body = {"state": "withdrawn"} | ({} if reason is None else {"reason": reason})
        self._json("PATCH", self._path_of(id), body=body)

    def statuses(self, *, limit: int, queue_name: str | None = None) -> list[CommandStatus]:
        """Statuses, newest first. Raises as `submit`."""
        query = {"limit": limit} | ({} if queue_name is None else {"queue_name": queue_name})
        found = self._json("GET", STATUS_PATH, query=query)
        return [self._status(item) for item in (found if isinstance(found, list) else [found])]

    def statuses_until_done(self, id: str) -> "StatusFeed":
        """The command's status again and again; see `StatusFeed`."""
        return StatusFeed(self, id)

    def _status(self, found: object) -> CommandStatus:
        try:
            return CommandStatus.model_validate(found)
        except ValidationError:
            raise self._not_ours() from None

    def _not_ours(self) -> Unavailable:
        return Unavailable(f"what answers at {self.url} is not xferq's api (XFERQ_API_URL)")

    @staticmethod
    def _path_of(id: str) -> str:
        if not is_command_id(id):
            raise Refused(f"{id!r} can't be the id of a command: it {ID_RULE}")
        return f"{STATUS_PATH}/{id}"

    def _json(self, method: str, path: str, *, timeout_s: float = _TIMEOUT_S, **more: Any) -> Any:
        there, proxy = f"the api at {self.url}", self._transport.proxy
        if proxy is not None:
            there += f", by way of the proxy {proxy}"
        try:
            connect_s = min(_CONNECT_S, timeout_s)
            answer = self._transport.exchange(method, path, connect_s=connect_s, timeout_s=timeout_s, **more)
        except NotReached as error:
            if isinstance(error.__cause__, ssl.SSLCertVerificationError):
                raise Refused(f"{there}: {error} (XFERQ_CLIENT_CA)") from error
            why = "is `xferq api` running? (XFERQ_API_URL)" if proxy is None else f"{error} (NO_PROXY names exceptions)"
            raise Unavailable(f"can't reach {there}: {why}") from error
        except NoAnswerInTime as error:
            raise Unavailable(f"{there} did not answer in time") from error
        except NoAnswer as error:
            raise Unavailable(f"{there}: {error}") from error
        except ValueError:
            raise Refused("the command line is not valid UTF-8, or --id is not ASCII") from None
        if answer.is_success:
            try:
                return answer.json()
            except (ValueError, RecursionError):
                raise self._not_ours() from None
        if answer.status == 401:
            raise Refused(
                f"the api at {self.url} does not know you: XFERQ_CLIENT_USER and XFERQ_CLIENT_PASSWORD, or "
                "XFERQ_CLIENT_CERT, say who you are"
            )
        raise _error(answer, self.url)


class StatusFeed:
    """Iterates over a command's status until it is done or refused.

    The command goes on without us, so an API or a Kafka that is away for a while does not end the wait.
    """

    def __init__(self, client: ApiClient, id: str, ends_at: float = math.inf) -> None:
        """Of this command; at `ends_at`, by `time.monotonic`, it ends where the API does not answer."""
        self._client = client
        self._id = id
        self._ends_at = ends_at
        self._polls = 0
        self._heard = time.monotonic()
        self._is_over = False

    def __iter__(self) -> "StatusFeed":
        return self

    def __next__(self) -> CommandStatus:
        if self._is_over:
            raise StopIteration
        while True:
            if self._polls:
                time.sleep(_POLL_S[min(self._polls // 10, len(_POLL_S) - 1)])
            self._polls += 1
            left_s = max(self._ends_at - time.monotonic(), _LEAST_S)
            try:
                status = self._client.status(self._id, timeout_s=min(left_s, _TIMEOUT_S))
            except Unavailable:
                if time.monotonic() > min(self._heard + _PATIENCE_S, self._ends_at):
                    raise
                continue
            self._heard = time.monotonic()
            self._is_over = status.state in ENDED
            return status


def _error(answer: Answer, url: str) -> XferqError:
    try:
        problem = answer.json()
        detail = str(problem["detail"])
        if problem.get("did_you_mean"):
            detail += f"; did you mean {problem['did_you_mean']}?"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Unavailable(f"what answers at {url} is not xferq's api: status {answer.status} (XFERQ_API_URL)")
    return Unavailable(detail) if answer.status >= 500 else Refused(detail)


def without_credentials(url: str) -> str:
    """The URL to be shown: a user and a password that stand in it are nobody else's business."""
    scheme, separator, rest = url.partition("://")
    if not separator or not scheme.isalnum():
        scheme, separator, rest = "", "", url
    # What comes behind the last @ before the path; in what is no URL, rather too much is left out.
    authority, slash, path = rest.partition("/") if _is_url(url) else (rest, "", "")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"


def _is_url(text: str) -> bool:
    """Whether its authority ends at its first slash: in a password that nobody has escaped there may be one, too."""
    try:
        parts = urlsplit(text)
        return bool(parts.netloc) and (parts.port is None or parts.port >= 0)
    except ValueError:
        return False
