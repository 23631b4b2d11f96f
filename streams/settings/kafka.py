"""Settings of how xferq reaches Kafka."""

from typing import Literal

from pydantic import BaseModel, Field

from streams.settings.notation import MaybeFile, MaybeSecret, MaybeText

EMBEDDED = "embedded"
"""The value of `bootstrap_servers` that asks for a broker of our own (`xferq up`, `xferq demo`)."""


class KafkaSettings(BaseModel):
    """How every Kafka client of xferq reaches it. streams/kafka/security.py checks what goes with what."""

    bootstrap_servers: str = Field(EMBEDDED, description="Kafka's `host:port` list; `embedded`: xferq's own Kafka")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="`SSL` and `SASL_SSL` use TLS; `SASL_PLAINTEXT` and `SASL_SSL` log in"
    )
    kafka_ca_file: MaybeFile = Field(
        None, description="PEM file of the authorities that signed Kafka's certificates; by default the system's"
    )
    kafka_check_hostname: bool = Field(True, description="with TLS: Kafka's certificate must match its host name")
    kafka_certificate_file: MaybeFile = Field(None, description="PEM file of a client certificate and its chain")
    kafka_key_file: MaybeFile = Field(None, description="PEM file of its key; by default in the same file")
    kafka_key_password: MaybeSecret = Field(None, description="password of an encrypted key")
    kafka_key_password_file: MaybeFile = Field(None, description="file that holds this password, instead")
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = Field(
        None, description="login mechanism: `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER`"
    )
    kafka_username: MaybeText = Field(None, description="user name, for PLAIN and SCRAM")
    kafka_password: MaybeSecret = Field(None, description="password, for PLAIN and SCRAM")
    kafka_password_file: MaybeFile = Field(None, description="file that holds the password, instead")
    # As secret as a password: a client's secret may stand in it.
    kafka_token_command: MaybeSecret = Field(
        None, description="for OAUTHBEARER: command that prints a token; run again before the token expires"
    )
