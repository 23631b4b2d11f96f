"""The command line's way to the API: requests, and errors in words for the person who typed the command."""

import ipaddress
import ssl
import time
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from api.commands import ENDPOINTS, STATUS_PATH
from api.embedded import api_url
from api.models import CommandStatus
from api.tls import client_context
from streams.domain.command import is_command_id
from streams.domain.transitions import ENDED
from streams.errors import Refused, Unavailable, XferqError
from streams.settings.settings import Settings

_TIMEOUT_S = 60.0
_CONNECT_S = 5.0
_POLL_S = (0.1, 0.2, 0.5)
_PATIENCE_S = 60.0
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
            # A proxy that the environment names is for the world outside.
            self._http = httpx.Client(
                base_url=url,
                auth=user,
                verify=True if tls is None else tls,
                timeout=httpx.Timeout(_TIMEOUT_S, connect=_CONNECT_S),
                trust_env=not _is_loopback(url),
            )
        except (httpx.InvalidURL, ValueError) as error:
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
        self._http.close()

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
        found: Mapping[str, Any] = self._json("GET", "/readyz", timeout=_READY_S)
        return found

    def submit(self, type: str, body: Mapping[str, object], id: str | None = None) -> str:
        """Ask for a command of this type; its id.

        Raises:
            Refused: the API does not take it.
            Unavailable: the API is not there, or has no Kafka.
        """
        key = id or uuid.uuid4().hex
        try:
            self._json("POST", ENDPOINTS[type].path, json=body, headers={"Idempotency-Key": key})
        except Unavailable as error:
            raise Unavailable(f"{error}. To repeat exactly this command: --id {key}") from error
        return key

    def status(self, id: str) -> CommandStatus:
        """One command's status. Raises as `submit`."""
        return CommandStatus.model_validate(self._json("GET", self._path_of(id)))

    def withdraw(self, id: str, reason: str | None) -> None:
        """See that a command does not begin any more. Raises as `submit`; Refused, too, where it has begun."""
        body = {"state": "withdrawn"} | ({} if reason is None else {"reason": reason})
        self._json("PATCH", self._path_of(id), json=body)

    def statuses(self, *, limit: int, queue_name: str | None = None) -> list[CommandStatus]:
        """Statuses, newest first. Raises as `submit`."""
        query = {"limit": limit} | ({} if queue_name is None else {"queue_name": queue_name})
        return [CommandStatus.model_validate(item) for item in self._json("GET", STATUS_PATH, params=query)]

    def statuses_until_done(self, id: str) -> "StatusFeed":
        """The command's status again and again; see `StatusFeed`."""
        return StatusFeed(self, id)

    @staticmethod
    def _path_of(id: str) -> str:
        if not is_command_id(id):
            raise Refused(f"{id!r} can't be the id of a command: it is 1 to 128 characters of A-Z a-z 0-9 . _ -")
        return f"{STATUS_PATH}/{id}"

    def _json(self, method: str, path: str, **more: Any) -> Any:
        try:
            answer = self._http.request(method, path, **more)
        except httpx.ConnectError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise Refused(f"the api at {self.url}: {error} (XFERQ_CLIENT_CA)") from error
            raise Unavailable(f"can't reach the api at {self.url}: is `xferq api` running? (XFERQ_API_URL)") from error
        except httpx.TimeoutException as error:
            raise Unavailable(f"the api at {self.url} did not answer in time") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(f"the api at {self.url}: {error}") from error
        except UnicodeError:
            raise Refused("the command line is not valid UTF-8, or --id is not ASCII") from None
        if answer.is_success:
            try:
                return answer.json()
            except ValueError:
                raise Unavailable(f"what answers at {self.url} is not xferq's api (XFERQ_API_URL)") from None
        if answer.status_code == 401:
            raise Refused(
                f"the api at {self.url} does not know you: XFERQ_CLIENT_USER and XFERQ_CLIENT_PASSWORD, or "
                "XFERQ_CLIENT_CERT, say who you are"
            )
        raise _error(answer, self.url)


class StatusFeed:
    """Iterates over a command's status until it is done or refused.

    The command goes on without us, so an API or a Kafka that is away for a while does not end the wait.
    """

    def __init__(self, client: ApiClient, id: str) -> None:
        self._client = client
        self._id = id
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
            try:
                status = self._client.status(self._id)
            except Unavailable:
                if time.monotonic() - self._heard > _PATIENCE_S:
                    raise
                continue
            self._heard = time.monotonic()
            self._is_over = status.state in ENDED
            return status


def _error(answer: httpx.Response, url: str) -> XferqError:
    try:
        detail = str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return Unavailable(f"what answers at {url} is not xferq's api: status {answer.status_code} (XFERQ_API_URL)")
    return Unavailable(detail) if answer.status_code >= 500 else Refused(detail)


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


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
