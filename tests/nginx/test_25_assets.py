"""Scripts and styles go out as they were compressed at the build, in the smallest form that the browser reads."""

from __future__ import annotations

import pytest

from tests.infra.test_60_nginx import asked
from tests.nginx.conftest import Server

ASSETS = "/opt/bedplate/web/current/assets"


@pytest.mark.parametrize(
    ("accepted", "encoding", "suffix"),
    [("gzip, deflate, br, zstd", "br", ".br"), ("gzip, deflate", "gzip", ".gz"), ("identity", None, "")],
)
def test_an_asset_is_sent_as_the_build_compressed_it(
    server: Server, accepted: str, encoding: str | None, suffix: str
) -> None:
    lines = server.on(f"cd {ASSETS} && stat -c %n:%s *").splitlines()
    sizes = {name: int(size) for name, _, size in (line.rpartition(":") for line in lines)}
    names = [name for name in sizes if name.endswith((".js", ".css"))]
    assert names
    for name in names:
        status, headers, body = asked(server.service, "GET", f"/assets/{name}", headers={"Accept-Encoding": accepted})
        assert (status, headers["Content-Encoding"], len(body)) == (200, encoding, sizes[name + suffix]), name
        assert headers["Vary"] == "Accept-Encoding"
        assert headers["Cache-Control"] == "public, max-age=31536000, immutable"
