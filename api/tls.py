"""TLS: the API's certificate, the certificates of its clients, and the command line's own."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streams.errors import InvalidSettings
from streams.settings.api import ApiSettings, ClientSettings

_SHORT = {
    "commonName": "CN",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "stateOrProvinceName": "ST",
    "localityName": "L",
    "domainComponent": "DC",
}
_MAX_SUBJECT_BYTES = 1000


def server_context(settings: ApiSettings) -> ssl.SSLContext | None:
    """How the API speaks TLS; None where it has no certificate. The files are read now, and not again.

    Raises:
        InvalidSettings: a file can't be used; the message names the setting.
    """
    if not settings.api_tls_cert or not settings.api_tls_key:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    password = settings.api_tls_key_password
    _load_chain(
        context,
        settings.api_tls_cert,
        settings.api_tls_key,
        password.get_secret_value() if password else "",
        "XFERQ_API_TLS_CERT, XFERQ_API_TLS_KEY",
    )
    if settings.api_tls_client_ca:
        _load_authority(context, settings.api_tls_client_ca, "XFERQ_API_TLS_CLIENT_CA")
        # A client without one may still come from a trusted host, or have a password; /livez is for all.
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def client_context(settings: ClientSettings) -> ssl.SSLContext:
    """How the command line speaks TLS. Raises as `server_context`."""
    context = ssl.create_default_context()
    if settings.client_ca:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _load_authority(context, settings.client_ca, "XFERQ_CLIENT_CA")
    if settings.client_cert:
        _load_chain(context, settings.client_cert, None, "", "XFERQ_CLIENT_CERT")
    return context


def subject_of(certificate: Mapping[str, Any]) -> str:
    """Whose certificate it is, as `CN=ops,O=Example`: its subject, else a name that it is for, else its number."""
    parts = [
        f"{_SHORT.get(name, name)}={_escaped(value)}" for rdn in certificate.get("subject", ()) for name, value in rdn
    ]
    parts = parts or [f"{name}:{value}" for name, value in certificate.get("subjectAltName", ())[:1]]
    text = ",".join(parts) or f"certificate {certificate.get('serialNumber', '?')}"
    return text.encode()[:_MAX_SUBJECT_BYTES].decode(errors="ignore")


def _escaped(value: str) -> str:
    """As RFC 4514: one field doesn't look like two."""
    return "".join(f"\\{char}" if char in ',+"\\<>;=' else char for char in value)


def _load_chain(context: ssl.SSLContext, cert: Path, key: Path | None, password: str, names: str) -> None:
    # Without this password OpenSSL would ask for one on the terminal.
    def ask() -> str:
        return password

    for path in (cert, key):
        _require_readable(path, names)
    try:
        context.load_cert_chain(cert, key, password=ask)
    except (ssl.SSLError, ValueError) as error:
        why = getattr(error, "reason", None) or "not PEM"
        encrypted = "; if the key is encrypted, XFERQ_API_TLS_KEY_PASSWORD is not its password" if key else ""
        raise InvalidSettings(f"{names}: {cert} and {key or cert} can't be used: {why}{encrypted}") from None


def _load_authority(context: ssl.SSLContext, path: Path, name: str) -> None:
    _require_readable(path, name)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise InvalidSettings(f"{name}: {path} holds no certificates: {error.reason or 'not PEM'}") from None


def _require_readable(path: Path | None, names: str) -> None:
    try:
        if path is not None:
            path.open("rb").close()
    except OSError as error:
        raise InvalidSettings(f"{names}: {path} can't be read: {error.strerror}") from None
