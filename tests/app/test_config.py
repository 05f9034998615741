"""A wrong configuration is refused before anything is opened, with code, cause and fix."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import yaml
from bedplate_server import checkpoint
from bedplate_server.config import Config, Listen, load
from bedplate_server.errors import Refusal
from bedplate_server.front.sockets import listening_socket

MODEL = {"name": "m", "path": "/models/m"}


def write(path: Path, settings: Any) -> Path:
    path.write_text(settings if isinstance(settings, str) else yaml.safe_dump(settings), encoding="utf-8")
    return path


def test_the_documented_example_is_accepted(tmp_path: Path) -> None:
    settings = {
        "listen": {"fd": 3},
        "models": [{"name": "tutor", "path": "/x", "task": "both", "dtype": "auto", "device": "auto"}],
        "keys_file": "/etc/bedplate/keys.yml",
        "limits": {"max_queue": 256, "max_body_bytes": 8388608, "max_tokens_default": 512},
        "threads": None,
    }
    config = load(write(tmp_path / "c.yml", settings))
    assert config.listen == Listen(fd=3)
    assert config.models[0].name == "tutor"


def test_the_command_line_overrides_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yml", {"listen": {"fd": 3}, "models": [MODEL]})
    config = load(path, {"listen": {"host": "127.0.0.1", "port": 1}}, "cpu")
    assert (config.listen.port, config.listen.fd, config.models[0].device) == (1, None, "cpu")
    assert load(None, {"models": [MODEL]}).listen == Listen(host="127.0.0.1", port=8000)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"models": []}, "models"),
        ({}, "models: Field required"),
        ({"models": [MODEL, MODEL]}, "two models or adapters have the same name"),
        ({"models": [{**MODEL, "dtype": "fp8"}]}, r"models\[0\]\.dtype: found 'fp8'"),
        ({"models": [{**MODEL, "device": "tpu"}]}, r"models\[0\]\.device: found 'tpu'"),
        ({"models": [{**MODEL, "devices": ["cuda"]}]}, r"models\[0\]\.devices\[0\]: found 'cuda'"),
        ({"models": [{**MODEL, "replicas": 3, "devices": ["cpu", "cpu"]}]}, r"devices names one per engine"),
        ({"models": [{**MODEL, "replicas": 2, "device": "cuda:1"}]}, r"device cuda:1 is one GPU"),
        ({"models": [{**MODEL, "name": "a b"}]}, r"models\[0\]\.name: found 'a b'"),
        ({"models": [{**MODEL, "trust_remote_code": True}]}, r"models\[0\]\.trust_remote_code: Extra inputs"),
        ({"models": [MODEL], "listen": {"fd": 3, "uds": "/x"}}, "listen: give exactly one of"),
        ({"models": [MODEL], "listen": {"host": "127.0.0.1"}}, "listen: host and port belong together"),
        ({"models": [MODEL], "limits": {"max_queue": -1}}, r"limits\.max_queue: found -1"),
        ({"models": [MODEL], "limits": {"drain_seconds": float("inf")}}, r"limits\.drain_seconds: found inf"),
        ({"models": [MODEL], "limits": {"stuck_seconds": float("nan")}}, r"limits\.stuck_seconds: found nan"),
        ({"models": [MODEL], "listen": {"uds": "/tmp/a\0b"}}, "listen: uds has a NUL in it"),
        ({"models": [MODEL], "threads": 0}, "threads: found 0"),
        ({"models": [MODEL], "colour": "red"}, "colour: Extra inputs"),
    ],
)
def test_wrong_values_are_named(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(Refusal, match=f"BP651 .*{said}.*Fix: "):
        load(write(tmp_path / "c.yml", settings))


def test_with_a_device_on_the_command_line_no_model_is_left_out(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"BP651 .*models\[0\]: found 3.*Fix: "):
        load(write(tmp_path / "c.yml", {"models": [3, MODEL]}), device="cpu")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("models: []\nmodels: []", "'models' is there twice"),
        ("limits: {max_queue: 1, max_queue: 2}", "'max_queue' is there twice"),
        ("keys_file: 2027-02-30", "day is out of range"),
        ("models: " + "[" * 3000, "nested too deeply"),
        ("threads: !!int ''", "cannot be read as YAML"),
    ],
)
def test_yaml_that_says_nothing_certain_is_refused(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(Refusal, match=rf"BP650 .*c\.yml.*{said}.*Fix: "):
        load(write(tmp_path / "c.yml", content))


def test_a_key_may_stand_beside_one_that_is_merged_in(tmp_path: Path) -> None:
    content = "models:\n- &one {name: m, path: /m}\n- {<<: *one, name: n}\n- {<<: *one, name: o}"
    config = load(write(tmp_path / "c.yml", content))
    assert [(model.name, str(model.path)) for model in config.models] == [("m", "/m"), ("n", "/m"), ("o", "/m")]


@pytest.mark.parametrize("content", ["models: [", "- a list", "just text", ""])
def test_what_is_not_a_yaml_mapping_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(Refusal, match=r"BP650 .*c\.yml.*Fix: "):
        load(write(tmp_path / "c.yml", content))
    with pytest.raises(Refusal, match="BP650"):
        load(tmp_path / "absent.yml")


def test_threads_default_to_the_processors_shared_by_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(9)))
    two = [MODEL, {**MODEL, "name": "n"}]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert Config.model_validate({"models": two}).threads_per_engine == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert Config.model_validate({"models": two}).threads_per_engine == 4
    assert Config.model_validate({"models": two, "threads": 7}).threads_per_engine == 7


def config(listen: dict[str, Any], keys: Path | None = None) -> Config:
    return Config.model_validate({"models": [MODEL], "listen": listen, "keys_file": keys})


def test_without_keys_nobody_outside_may_reach_it(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"BP652 .*0\.0\.0\.0.*Fix: set keys_file"):
        listening_socket(config({"host": "0.0.0.0", "port": 0}))
    for listen, keys in [
        ({"host": "0.0.0.0", "port": 0}, tmp_path / "keys.yml"),
        ({"host": "127.0.0.1", "port": 0}, None),
        ({"host": "localhost", "port": 0}, None),
        ({"uds": tmp_path / "s.sock"}, None),
    ]:
        with listening_socket(config(listen, keys)) as listener:
            assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


def test_an_inherited_socket_that_is_open_to_others_needs_keys_too() -> None:
    with socket.socket() as passed:
        passed.bind(("0.0.0.0", 0))
        with pytest.raises(Refusal, match="BP652 file descriptor"):
            listening_socket(config({"fd": passed.detach()}))


def test_a_taken_address_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Refusal, match=rf"BP656 cannot listen on 127\.0\.0\.1:{port}.*Fix: "):
            listening_socket(config({"host": "127.0.0.1", "port": port}))
    path = tmp_path / "s.sock"
    with listening_socket(config({"uds": path})), pytest.raises(Refusal, match="BP656"):
        listening_socket(config({"uds": path}))
    # What a dead process left behind is in nobody's way.
    with listening_socket(config({"uds": path})):
        assert path.stat().st_mode & 0o777 == 0o660


def test_an_impossible_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refusal, match=r"BP656 cannot listen on a\.\.b:8000: .*Fix: "):
        listening_socket(config({"host": "a..b", "port": 8000}))
    with socket.socket(type=socket.SOCK_DGRAM) as passed, pytest.raises(Refusal, match="BP656"):
        passed.bind(("127.0.0.1", 0))
        listening_socket(config({"fd": passed.detach()}))
    monkeypatch.setenv("LISTEN_PID", "abc")
    with pytest.raises(Refusal, match=r"BP656 cannot listen on file descriptor 3: .*'abc'.*Fix: "):
        listening_socket(config({"fd": 3}))


def test_a_missing_systemd_socket_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refusal, match=r"BP656 cannot listen on file descriptor 99"):
        listening_socket(config({"fd": 99}))
    monkeypatch.setenv("LISTEN_PID", "1")
    with pytest.raises(Refusal, match=r"BP656 .*passed its sockets to process 1"):
        listening_socket(config({"fd": 3}))


def test_a_model_directory_is_checked(tmp_path: Path, models: dict[str, Path]) -> None:
    assert checkpoint.read(models["llama"], "auto").task == "both"
    assert checkpoint.read(models["encoder"], "auto").task == "embedding"
    assert checkpoint.read(models["encoder"], "auto").longest_input == 512
    with pytest.raises(Refusal, match=r"BP655 .*task is chat but its architecture"):
        checkpoint.read(models["encoder"], "chat")
    with pytest.raises(Refusal, match=r"BP654 .*is not a directory"):
        checkpoint.read(tmp_path / "absent", "auto")
    partial = tmp_path / "partial"
    partial.mkdir()
    with pytest.raises(Refusal, match=r"BP654 .*no readable config\.json"):
        checkpoint.read(partial, "auto")
    (partial / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}', encoding="utf-8")
    (partial / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(Refusal, match=r"BP654 .*no \*\.safetensors file.*Fix: use a revision published as safetensors"):
        checkpoint.read(partial, "auto")
    (partial / "model.safetensors").touch()
    with pytest.raises(Refusal, match=r"BP654 .*no tokenizer\.json"):
        checkpoint.read(partial, "auto")
    (partial / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(Refusal, match=r"BP655 .*it has no chat template"):
        checkpoint.read(partial, "chat")
    base = checkpoint.read(partial, "auto")
    assert (base.task, base.generates, base.chats, base.embeds) == ("completion", True, False, False)
    (partial / "modules.json").write_text("[]", encoding="utf-8")
    assert checkpoint.read(partial, "auto").task == "embedding", "its author made it for vectors"
