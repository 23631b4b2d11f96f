"""TLS over real sockets: certificates, those of clients, slow handshakes, and the command line as a client."""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from api.tls import server_context, subject_of
from streams.errors import InvalidSettings
from streams.settings.settings import Settings
from tests.api.processes import ApiProcess, environment, xferq
from tests.api.running import problem_of
from tests.api.test_access import LINE, NAME, WORD, basic
from tests.support.patience import WAIT_S, allowed_s

PASSPHRASE = "over the hills"  # noqa: S105 - of a key that is made here
NO_KAFKA = {"XFERQ_BOOTSTRAP_SERVERS": "127.0.0.1:1", "XFERQ_API_TRUSTED_HOSTS": ""}


@dataclass(frozen=True)
class Files:
    """PEM files: the server's, and those of clients of one authority and of another one."""

    folder: Path

    def __getattr__(self, name: str) -> str:
        return str(self.folder / f"{name}.pem")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """All of them."""
    folder = tmp_path_factory.mktemp("pem")
    servers, clients, others = trustme.CA(), trustme.CA(), trustme.CA()
    servers.cert_pem.write_to_path(str(folder / "server_ca.pem"))
    clients.cert_pem.write_to_path(str(folder / "client_ca.pem"))
    server = servers.issue_cert("127.0.0.1", "localhost")
    for index, blob in enumerate(server.cert_chain_pems):
        blob.write_to_path(str(folder / "cert.pem"), append=index > 0)
    server.private_key_pem.write_to_path(str(folder / "key.pem"))
    key = load_pem_private_key(server.private_key_pem.bytes(), None)
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE.encode()))
    (folder / "encrypted_key.pem").write_bytes(encrypted)
    for name, authority in (("client", clients), ("other", others)):
        issued = authority.issue_cert("ops@example.com", common_name="ops", organization_name="Mail, Inc.")
        issued.private_key_and_cert_chain_pem.write_to_path(str(folder / f"{name}.pem"))
    (folder / "rubbish.pem").write_text("-----BEGIN CERTIFICATE-----\nx\n")
    (folder / "users").write_text(LINE + "\n")
    return Files(folder)


def env_of(files: Files, home: Path, **more: str) -> dict[str, str]:
    """An environment of an API with a certificate, with a user and with an authority for clients."""
    variables = {
        "XFERQ_API_TLS_CERT": files.cert,
        "XFERQ_API_TLS_KEY": files.key,
        "XFERQ_API_TLS_CLIENT_CA": files.client_ca,
        "XFERQ_API_USERS_FILE": str(files.folder / "users"),
    }
    return environment(NO_KAFKA | variables | more, home)


@pytest.fixture(scope="module")
def server(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    """Such an API, of little patience."""
    env = env_of(files, tmp_path_factory.mktemp("home"), XFERQ_API_HEAD_S="1.5")
    with ApiProcess(env) as running:
        assert running.url.startswith("https://127.0.0.1:")
        yield running


def client_of(server: ApiProcess, files: Files, cert: str | None = None) -> httpx.Client:
    """A client that trusts the server's authority."""
    context = ssl.create_default_context(cafile=files.server_ca)
    if cert is not None:
        context.load_cert_chain(cert)
    return httpx.Client(base_url=server.url, verify=context, trust_env=False, timeout=WAIT_S)


def port_of(server: ApiProcess) -> int:
    return int(server.url.rpartition(":")[2])


# ---- ways in


def test_over_tls_as_without(server: ApiProcess, files: Files) -> None:
    with client_of(server, files) as client:
        assert client.get("/livez").json() == {"status": "ok"}
        problem_of(client.get("/docs"), 401, "unauthorized")
        assert client.get("/docs", headers=basic()).status_code == 200


def test_a_certificate_of_ours_is_a_way_in(server: ApiProcess, files: Files) -> None:
    with client_of(server, files, files.client) as client:
        for _ in range(2):  # on the same connection
            assert client.get("/docs").status_code == 200
        # And it is who asks, whatever else is presented.
        assert client.get("/docs", headers=basic(word="wrong")).status_code == 200


def test_a_certificate_of_another_authority_is_none(server: ApiProcess, files: Files) -> None:
    with client_of(server, files, files.other) as client, pytest.raises(httpx.TransportError):
        client.get("/livez")


def test_a_certificate_counts_for_its_own_connection(server: ApiProcess, files: Files) -> None:
    with client_of(server, files, files.client) as known, client_of(server, files) as stranger:
        assert known.get("/docs").status_code == 200
        assert stranger.get("/docs").status_code == 401
        assert known.get("/docs").status_code == 200


def test_without_an_authority_no_certificate_is_a_way_in(files: Files, tmp_path: Path) -> None:
    env = env_of(files, tmp_path, XFERQ_API_TLS_CLIENT_CA="")
    with ApiProcess(env) as plain, client_of(plain, files, files.client) as client:
        assert client.get("/docs").status_code == 401


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_versions_of_tls_are_not_spoken(server: ApiProcess, files: Files) -> None:
    context = ssl.create_default_context(cafile=files.server_ca)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", port_of(server))) as raw, pytest.raises(OSError):  # noqa: PT011
        context.wrap_socket(raw, server_hostname="127.0.0.1")


def test_an_encrypted_key(files: Files, tmp_path: Path) -> None:
    more = {"XFERQ_API_TLS_KEY": files.encrypted_key, "XFERQ_API_TLS_KEY_PASSWORD": PASSPHRASE}
    with ApiProcess(env_of(files, tmp_path, **more)) as server, client_of(server, files) as client:
        assert client.get("/livez").status_code == 200
        assert PASSPHRASE not in "".join(server.log)


# ---- the command line


def test_the_command_line_over_tls(server: ApiProcess, files: Files, tmp_path: Path) -> None:
    def said(**variables: str) -> str:
        env = environment({"XFERQ_API_URL": server.url} | variables, tmp_path)
        (line,) = xferq("status", env=env, status=1).stderr.splitlines()
        return line

    in_kafka = "Connection refused"  # let in, and Kafka is what is missing
    ours = {"XFERQ_CLIENT_CA": files.server_ca}
    assert in_kafka in said(XFERQ_CLIENT_USER=NAME, XFERQ_CLIENT_PASSWORD=WORD, **ours)
    assert in_kafka in said(XFERQ_CLIENT_CERT=files.client, **ours)
    assert "does not know you" in said(**ours)
    assert "XFERQ_CLIENT_CA" in said()
    assert "XFERQ_CLIENT_CA" in said(XFERQ_CLIENT_CA=files.client_ca)


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("XFERQ_CLIENT_CA", "/nope.pem", "/nope.pem can't be read: No such file"),
        ("XFERQ_CLIENT_CA", "rubbish", "holds no certificates"),
        ("XFERQ_CLIENT_CERT", "rubbish", "can't be used"),
    ],
)
def test_files_of_the_command_line(files: Files, tmp_path: Path, name: str, value: str, what: str) -> None:
    path = value if value.startswith("/") else getattr(files, value)
    env = environment({"XFERQ_API_URL": "https://127.0.0.1:1", name: path}, tmp_path)
    (line,) = xferq("status", env=env, status=2).stderr.splitlines()
    assert line.startswith(f"xferq: {name}: ")
    assert what in line


# ---- what can't be used


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        (
            {"XFERQ_API_TLS_CERT": "/nope.pem"},
            "XFERQ_API_TLS_CERT, XFERQ_API_TLS_KEY: /nope.pem can't be read: No such",
        ),
        ({"XFERQ_API_TLS_CERT": "rubbish"}, "can't be used"),
        ({"XFERQ_API_TLS_KEY": "cert"}, "can't be used"),
        ({"XFERQ_API_TLS_KEY": "client"}, "KEY_VALUES_MISMATCH"),
        ({"XFERQ_API_TLS_KEY": "encrypted_key"}, "XFERQ_API_TLS_KEY_PASSWORD"),
        ({"XFERQ_API_TLS_KEY": "encrypted_key", "XFERQ_API_TLS_KEY_PASSWORD": "hunter2"}, "XFERQ_API_TLS_KEY_PASSWORD"),
        ({"XFERQ_API_TLS_CLIENT_CA": "rubbish"}, "XFERQ_API_TLS_CLIENT_CA: "),
        ({"XFERQ_API_TLS_KEY": ""}, "go together"),
    ],
)
def test_files_that_can_t_be_used(files: Files, tmp_path: Path, changes: dict[str, str], what: str) -> None:
    plain = ("/", "hunter2")
    found = {
        name: value if not value or value.startswith(plain) else getattr(files, value)
        for name, value in changes.items()
    }
    (line,) = xferq("api", "--port", "0", env=env_of(files, tmp_path, **found), status=2).stderr.splitlines()
    assert line.startswith("xferq: XFERQ_API_TLS_")
    assert what in line
    assert "hunter2" not in line


def test_without_a_certificate_there_is_no_tls() -> None:
    assert server_context(Settings()) is None


def test_no_authority_is_made_up(files: Files) -> None:
    settings = Settings(api_tls_cert=Path(files.cert), api_tls_key=Path(files.key), api_tls_client_ca=Path("/nope"))
    with pytest.raises(InvalidSettings, match="XFERQ_API_TLS_CLIENT_CA: /nope can't be read"):
        server_context(settings)


# ---- clients that harm


async def test_a_handshake_that_does_not_come_is_given_up(server: ApiProcess, files: Files) -> None:
    started = time.monotonic()
    crowd = [await asyncio.open_connection("127.0.0.1", port_of(server)) for _ in range(50)]
    crowd[0][1].write(b"\x16\x03\x01")  # a handshake's beginning, and no more
    with client_of(server, files) as client:  # others are served meanwhile
        assert (await asyncio.to_thread(client.get, "/livez")).status_code == 200
    async with asyncio.timeout(WAIT_S):
        for reader, writer in crowd:
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
    # By our limit, which is 1.5 s here, not by asyncio's, which is 60.
    assert 1 < time.monotonic() - started < allowed_s(5)


def test_what_is_no_tls_harms_nobody(server: ApiProcess, files: Files) -> None:
    for raw in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x00\xff" * 20, b"\0" * 1000):
        with socket.create_connection(("127.0.0.1", port_of(server))) as connection:
            connection.sendall(raw)
            connection.settimeout(WAIT_S)
            with contextlib.suppress(ConnectionError):
                assert not connection.recv(1000).startswith(b"HTTP")
    with client_of(server, files) as client:
        assert client.get("/livez").status_code == 200
    assert "Traceback" not in "".join(server.log)


async def test_a_head_that_dribbles_is_cut_off_over_tls_too(server: ApiProcess, files: Files) -> None:
    context = ssl.create_default_context(cafile=files.server_ca)
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server), ssl=context)
    writer.write(b"GET / HTTP/1.1\r\n")
    async with asyncio.timeout(WAIT_S):
        assert b" 408 " in await reader.readline()
        await reader.read()
    writer.close()


# ---- whose certificate it is


@pytest.mark.parametrize(
    ("certificate", "expected"),
    [
        ({"subject": ((("commonName", "ops"),), (("organizationName", "Mail"),))}, "CN=ops,O=Mail"),
        ({"subject": ((("commonName", "ops,O=Mail"),),)}, "CN=ops\\,O\\=Mail"),
        ({"subject": ((("emailAddress", "a@b"),),)}, "emailAddress=a@b"),
        ({"subject": (), "subjectAltName": (("DNS", "a.example"), ("DNS", "b.example"))}, "DNS:a.example"),
        ({"subject": (), "serialNumber": "0A"}, "certificate 0A"),
        ({"subject": ((("commonName", "\u20ac" * 1000),),)}, "CN=" + "\u20ac" * 332),
    ],
)
def test_whose_certificate_it_is(certificate: dict[str, object], expected: str) -> None:
    assert subject_of(certificate) == expected
