"""Caddy and nginx as docs/operations.md configures them, and nginx as carelessly as it can be."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.waiting import wait_for

PAGE = Path(__file__).resolve().parents[3] / "docs/operations.md"
UPSTREAM = "127.0.0.1:8000"  # In the page.
NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream topwork {{
        server {upstream};
        keepalive 8;
    }}
    server {{
        listen 127.0.0.1:{port};
        {location}
    }}
}}
"""
CARELESS = """
location / {
    proxy_pass http://topwork;
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $http_connection;
    proxy_request_buffering off;
}
"""
KINDS = ("caddy", "nginx", "careless nginx")


def documented(language: str) -> str:
    """The one code block of this language on the page."""
    (block,) = re.findall(
        rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    assert UPSTREAM in block
    return str(block)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _caddy(folder: Path, port: int, upstream: int) -> list[str]:
    site = documented("caddyfile").replace("topwork.example.org", f"http://:{port}")
    assert str(port) in site
    options = f"{{\n  admin off\n  default_bind 127.0.0.1\n  storage file_system {folder}\n}}\n"
    file = folder / "Caddyfile"
    file.write_text(options + site.replace(UPSTREAM, f"127.0.0.1:{upstream}"))
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(file)]


def _nginx(folder: Path, port: int, upstream: int, location: str) -> list[str]:
    address = f"127.0.0.1:{upstream}"
    location = location.replace(UPSTREAM, address)
    file = folder / "nginx.conf"
    text = NGINX.format(folder=folder, port=port, upstream=address, location=location)
    file.write_text(text)
    return ["nginx", "-c", str(file), "-e", str(folder / "error.log")]


@contextmanager
def proxied(kind: str, folder: Path, upstream: int) -> Iterator[int]:
    """Run a proxy in front of a port; its own port. Skips where the program is absent."""
    program = kind.rsplit(maxsplit=1)[-1]
    path = f"{os.environ['PATH']}:/usr/sbin"
    if shutil.which(program, path=path) is None:
        pytest.skip(f"{program} is not installed (apt-get install {program})")
    folder.mkdir()
    port = free_port()
    command = {
        "caddy": lambda: _caddy(folder, port, upstream),
        "nginx": lambda: _nginx(folder, port, upstream, documented("nginx")),
        "careless nginx": lambda: _nginx(folder, port, upstream, CARELESS),
    }[kind]()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={"PATH": path, "HOME": str(folder)}
        )

    def listens() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_for(listens)
        yield port
    finally:
        process.kill()  # Told to stop, Caddy waits for the requests under way.
        process.wait(20)
