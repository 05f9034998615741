"""uv is told exactly what the server's pip is configured for."""

from __future__ import annotations

from ansible.module_utils.bedplate.pipconfig import (
    config_files,
    pip_sources,
    requirement_options,
    uv_environment,
)

SYSTEM = "[global]\nindex-url = https://mirror.example/simple\ncert = /etc/ssl/ca.crt\n"
USER = "[global]\nextra-index-url =\n    https://a.example/simple\n    https://b.example/simple\nfind_links = /srv/wheels\n"


def test_later_files_and_the_environment_win() -> None:
    environ = {"PIP_FIND_LINKS": "/mnt/wheels /mnt/more"}
    found = pip_sources([SYSTEM, USER, "[install]\nindex-url = https://install.example/simple\n"], environ)
    assert found["index_url"] == "https://install.example/simple"
    assert found["extra_index_url"] == ["https://a.example/simple", "https://b.example/simple"]
    assert found["find_links"] == ["/mnt/wheels", "/mnt/more"]
    assert found["cert"] == "/etc/ssl/ca.crt"
    assert found["no_index"] is False


def test_a_percent_sign_in_a_password_is_no_interpolation() -> None:
    assert pip_sources(["[global]\nindex-url = https://u:p%40ss@h.example/simple\n"], {})["index_url"].endswith(
        "u:p%40ss@h.example/simple"
    )


def test_sources_become_lines_of_a_requirements_file() -> None:
    lines = requirement_options(pip_sources([SYSTEM, USER], {}), "https://torch.example/whl/cpu").splitlines()
    assert lines == [
        "--index-url https://mirror.example/simple",
        "--extra-index-url https://a.example/simple",
        "--extra-index-url https://b.example/simple",
        "--extra-index-url https://torch.example/whl/cpu",
        "--find-links /srv/wheels",
    ]
    assert requirement_options(pip_sources(["[global]\nno-index = true\n"], {})) == "--no-index\n"


def test_certificates_proxy_and_trusted_hosts_become_variables() -> None:
    text = SYSTEM + "proxy = http://proxy.example:3128\ntrusted-host = a.example b.example\n"
    assert uv_environment(pip_sources([text], {})) == {
        "SSL_CERT_FILE": "/etc/ssl/ca.crt",
        "ALL_PROXY": "http://proxy.example:3128",
        "UV_INSECURE_HOST": "a.example b.example",
    }
    assert uv_environment(pip_sources([], {})) == {}


def test_pip_reads_its_files_in_this_order() -> None:
    environ = {"HOME": "/root", "PIP_CONFIG_FILE": "/srv/pip.conf"}
    assert config_files(environ) == [
        "/etc/xdg/pip/pip.conf",
        "/etc/pip.conf",
        "/root/.pip/pip.conf",
        "/root/.config/pip/pip.conf",
        "/srv/pip.conf",
    ]
    assert config_files({"PIP_CONFIG_FILE": "/dev/null"}) == []
