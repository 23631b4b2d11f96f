"""Settings of the api, and of the command line as its client."""

from typing import Self

from pydantic import BaseModel, Field, model_validator

from streams.domain.network import parse_network
from streams.settings.notation import MaybeFile, MaybeSecret, MaybeText, Networks, Words
from streams.settings.sources import variable


class ApiSettings(BaseModel):
    """Where the api listens, who may use it, and what a client may take."""

    # The api: where it listens, who may use it.
    api_listen_host: str = Field("127.0.0.1", description="address that the api listens on; `xferq api --host`")
    api_listen_port: int = Field(
        8000, ge=0, le=65535, description="port of the api, 0: any free one; `xferq api --port`"
    )
    api_names: Words = Field(
        (), description="names in the api's URLs (list), besides localhost and the address a request arrives at"
    )
    api_trusted_hosts: Networks = Field(
        (parse_network("127.0.0.0/8"), parse_network("::1/128")),
        description="networks (CIDR, list) whose requests need no password",
    )
    api_trusted_proxies: Networks = Field(
        (), description="networks (CIDR, list) of proxies whose X-Forwarded-For tells the client's address"
    )
    api_users_file: MaybeFile = Field(None, description="users and hashes from `xferq hash-password`, one per line")
    api_tls_cert: MaybeFile = Field(None, description="PEM file of the api's certificate and its chain")
    api_tls_key: MaybeFile = Field(None, description="PEM file of its key")
    api_tls_key_password: MaybeSecret = Field(None, description="password of the key, if it is encrypted")
    api_tls_client_ca: MaybeFile = Field(
        None, description="PEM file of an authority; clients with a certificate from it need no password"
    )

    # The api: what a client may take.
    api_body_bytes: int = Field(
        2 << 20, ge=1 << 10, le=64 << 20, description="largest request body (bytes), also unpacked"
    )
    api_head_bytes: int = Field(64 << 10, ge=1 << 10, le=1 << 20, description="largest request head (bytes), about")
    api_head_s: float = Field(10.0, gt=0, description="longest wait (s) for a request's head, and for a TLS handshake")
    api_body_s: float = Field(30.0, gt=0, description="longest wait (s) for a body")
    api_read_s: float = Field(30.0, gt=0, description="longest time (s) that a response may stay unread")
    api_requests: int = Field(256, ge=1, description="requests handled concurrently")
    api_connections: int = Field(2048, ge=16, description="concurrent connections")

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        _require_both(self, "api_tls_cert", "api_tls_key")
        if self.api_tls_client_ca and not self.api_tls_cert:
            raise ValueError("XFERQ_API_TLS_CLIENT_CA needs XFERQ_API_TLS_CERT and XFERQ_API_TLS_KEY")
        return self


class ClientSettings(BaseModel):
    """How the command line finds the api, and who it is there."""

    api_url: str = Field("http://127.0.0.1:8000", description="URL at which the command line finds the api")
    client_user: MaybeText = Field(None, description="user name of the command line, where the api asks for one")
    client_password: MaybeSecret = Field(None, description="that user's password")
    client_ca: MaybeFile = Field(
        None, description="PEM file of the authorities for the api's certificate; by default the system's"
    )
    client_cert: MaybeFile = Field(None, description="PEM file of a client certificate and its key")

    @model_validator(mode="after")
    def _login_is_whole(self) -> Self:
        _require_both(self, "client_user", "client_password")
        return self


def _require_both(settings: BaseModel, one: str, other: str) -> None:
    if bool(getattr(settings, one)) != bool(getattr(settings, other)):
        raise ValueError(f"{variable(one)} and {variable(other)} go together")
