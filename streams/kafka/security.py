"""TLS and logins: the one place that turns settings into the options of each Kafka library.

What is wrong with the settings by themselves is found here, at the start. What is wrong between them and a Kafka is
found by `streams.kafka.reachable`.
"""

import ssl
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from streams.errors import Misconfigured
from streams.kafka.token_command import TokenCommand
from streams.settings.kafka import KafkaSettings
from streams.settings.sources import variable

_PROTOCOL = "kafka_security_protocol"
_OF_TLS = (
    "kafka_ca_file",
    "kafka_certificate_file",
    "kafka_key_file",
    "kafka_key_password",
    "kafka_key_password_file",
)
_OF_PASSWORDS = ("kafka_username", "kafka_password", "kafka_password_file")
_OF_A_LOGIN = ("kafka_sasl_mechanism", *_OF_PASSWORDS, "kafka_token_command")


class Security:
    """How a client says who it is, and makes sure whom it talks to. It shows nothing of its secrets."""

    def __init__(self, settings: KafkaSettings) -> None:
        """Read the files that the settings name.

        Raises:
            Misconfigured: settings that don't go together, or a file that is not what it should be.
        """
        protocol = settings.kafka_security_protocol
        self.protocol: str = protocol
        self.mechanism: str | None = settings.kafka_sasl_mechanism
        has_tls, has_login = protocol.endswith("SSL"), protocol.startswith("SASL")
        if not has_tls:
            _require_unset(settings, _OF_TLS, f"{variable(_PROTOCOL)} is {protocol}, without TLS")
            if not settings.kafka_check_hostname:
                raise Misconfigured(
                    f"{variable('kafka_check_hostname')} is false, but {variable(_PROTOCOL)} is {protocol}, without TLS"
                )
        if not has_login:
            _require_unset(settings, _OF_A_LOGIN, f"{variable(_PROTOCOL)} is {protocol}, without a login")
        self.ssl_context = _ssl_context(settings) if has_tls else None
        self._aiokafka: dict[str, Any] = {"security_protocol": protocol}
        self._librdkafka: dict[str, Any] = {"security.protocol": protocol}
        if has_tls:
            self._add_tls(settings)
        if has_login:
            self._add_login(settings)

    def aiokafka(self) -> dict[str, Any]:
        """Options of aiokafka's clients; they hold secrets."""
        return dict(self._aiokafka)

    def librdkafka(self) -> dict[str, Any]:
        """Options of confluent-kafka's clients; they hold secrets."""
        return dict(self._librdkafka)

    def _add_tls(self, settings: KafkaSettings) -> None:
        self._aiokafka["ssl_context"] = self.ssl_context
        certificate, key = settings.kafka_certificate_file, settings.kafka_key_file or settings.kafka_certificate_file
        options = {
            "ssl.ca.location": settings.kafka_ca_file,
            "ssl.certificate.location": certificate,
            "ssl.key.location": key,
            "ssl.key.password": _secret(settings, "kafka_key_password"),
            "ssl.endpoint.identification.algorithm": "https" if settings.kafka_check_hostname else "none",
        }
        self._librdkafka |= {name: str(value) for name, value in options.items() if value is not None}

    def _add_login(self, settings: KafkaSettings) -> None:
        mechanism = settings.kafka_sasl_mechanism
        if mechanism is None:
            raise Misconfigured(
                f"{variable('kafka_sasl_mechanism')} is not set, but {variable(_PROTOCOL)} is {self.protocol}, "
                "with a login"
            )
        self._aiokafka["sasl_mechanism"] = mechanism
        self._librdkafka["sasl.mechanisms"] = mechanism
        because = f"{variable('kafka_sasl_mechanism')} is {mechanism}"
        if mechanism == "OAUTHBEARER":
            _require_unset(settings, _OF_PASSWORDS, because)
            given = settings.kafka_token_command
            command = given.get_secret_value() if given else ""
            _require_set(command, "kafka_token_command", because)
            tokens = TokenCommand(command)
            self._aiokafka["sasl_oauth_token_provider"] = tokens
            self._librdkafka["oauth_cb"] = tokens.for_librdkafka
            return
        _require_unset(settings, ("kafka_token_command",), because)
        _require_set(settings.kafka_username, "kafka_username", because)
        password = _secret(settings, "kafka_password")
        _require_set(password, "kafka_password", because, f" (or {variable('kafka_password_file')})")
        self._aiokafka |= {"sasl_plain_username": settings.kafka_username, "sasl_plain_password": password}
        self._librdkafka |= {"sasl.username": settings.kafka_username, "sasl.password": password}


def _require_unset(settings: KafkaSettings, names: tuple[str, ...], because: str) -> None:
    for name in names:
        if getattr(settings, name) is not None:
            raise Misconfigured(f"{variable(name)} is set, but {because}")


def _require_set(value: str | None, name: str, because: str, other: str = "") -> None:
    if not value:
        raise Misconfigured(f"{variable(name)}{other} is not set, but {because}")


def _secret(settings: KafkaSettings, name: str) -> str | None:
    """A secret that stands in the settings, or in a file that they name; a line end at its end is none of it."""
    given: SecretStr | None = getattr(settings, name)
    file: Path | None = getattr(settings, f"{name}_file")
    if file is None:
        return None if given is None else given.get_secret_value()
    in_file = variable(f"{name}_file")
    if given is not None:
        raise Misconfigured(f"{variable(name)} and {in_file} are both set: one of them is enough")
    try:
        found = file.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise Misconfigured(f"{in_file}: {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Misconfigured(f"{in_file}: {file} is not UTF-8") from None
    if not found:
        raise Misconfigured(f"{in_file}: {file} is empty")
    return found


def _ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    ca_file = settings.kafka_ca_file
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise Misconfigured(f"{variable('kafka_ca_file')}: {ca_file} holds no certificate in PEM") from None
    except OSError as error:
        raise Misconfigured(f"{variable('kafka_ca_file')}: {ca_file}: {error.strerror}") from None
    context.check_hostname = settings.kafka_check_hostname
    _add_certificate(context, settings)
    return context


def _add_certificate(context: ssl.SSLContext, settings: KafkaSettings) -> None:
    certificate, key = settings.kafka_certificate_file, settings.kafka_key_file
    if certificate is None:
        _require_unset(settings, _OF_TLS[2:], f"{variable('kafka_certificate_file')} is not")
        return
    for name, file in (("kafka_certificate_file", certificate), ("kafka_key_file", key)):
        try:
            if file is not None:
                file.read_bytes()
        except OSError as error:
            raise Misconfigured(f"{variable(name)}: {file}: {error.strerror}") from None
    password = _secret(settings, "kafka_key_password")
    asked = False

    def answer() -> str:
        nonlocal asked
        asked = True
        return password or ""  # without one, OpenSSL would ask on the terminal

    try:
        context.load_cert_chain(certificate, key, answer)
    except ssl.SSLError as error:
        where = variable("kafka_certificate_file" if key is None else "kafka_key_file")
        if error.reason == "KEY_VALUES_MISMATCH":
            raise Misconfigured(
                f"{where}: {key or certificate} is not the key of the certificate in {certificate}"
            ) from None
        if asked:
            raise Misconfigured(
                f"{variable('kafka_key_password')}: it does not open the key in {key or certificate}"
            ) from None
        raise Misconfigured(
            f"{variable('kafka_certificate_file')}, {variable('kafka_key_file')}: {certificate} and "
            f"{key or certificate} don't hold a certificate and its key in PEM"
        ) from None
