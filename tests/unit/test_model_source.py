"""Models that must not or cannot be served are refused by name, before anything is copied."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.bedplate.model_source import (
    directory_name,
    located,
    plan,
    receipt,
    safetensors_bytes,
    unlocked,
    wanted_files,
)

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def safetensors(path: Path, size: int = 16) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(size))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    safetensors(folder / "model.safetensors")
    return folder


def problems(source: Path | str, **more: Any) -> str:
    (planned,) = plan([{"name": "tiny", "source": str(source), **more}])
    return "\n".join(planned["problems"])


def test_a_good_directory_is_named_by_its_content(model: Path) -> None:
    (planned,) = plan([{"name": "tiny", "source": str(model)}])
    assert planned["problems"] == []
    assert planned["kind"] == "directory" and planned["task"] == "auto"
    assert planned["directory"] == f"bedplate--tiny@{planned['revision'][:12]}"


def test_pickle_weights_are_refused(model: Path) -> None:
    (model / "pytorch_model.bin").touch()
    assert "BP502" in problems(model) and "pytorch_model.bin" in problems(model)


def test_a_directory_without_weights_is_refused(model: Path) -> None:
    (model / "model.safetensors").unlink()
    assert "BP502" in problems(model)


def test_a_directory_without_config_is_refused(model: Path) -> None:
    (model / "config.json").unlink()
    assert "BP503" in problems(model)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "llama"}, "architectures=None"),
        ({"architectures": ["LlamaForCausalLM"]}, "model_type=None"),
        ({"architectures": [], "model_type": "x"}, "architectures=[]"),
    ],
)
def test_an_architecture_that_is_not_named_is_refused(model: Path, config: dict[str, Any], said: str) -> None:
    (model / "config.json").write_text(json.dumps(config))
    assert "BP504" in problems(model) and said in problems(model)


OWN_CODE = {"AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("config.json", {**CONFIG, "auto_map": OWN_CODE}, "modeling_own.OwnForCausalLM"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["tokens.Own", None]}}, "tokens.Own"),
    ],
)
def test_code_of_a_models_own_needs_an_opt_in_that_names_the_files_it_was_given_for(
    model: Path, path: str, content: dict[str, Any], said: str
) -> None:
    (model / path).write_text(json.dumps(content))
    refused = problems(model)
    pin = re.search(r"ignore_remote_code: ([0-9a-f]{64}) in model_list", refused)
    assert refused.startswith("BP504 model tiny brings its own code") and said in refused and pin
    assert problems(model, ignore_remote_code=pin[1]) == ""
    for other in (pin[1][:12], True, "0" * 64):
        assert f"while ignore_remote_code names {other}" in problems(model, ignore_remote_code=other)
    (model / "README.md").write_text("another revision")
    assert f"while ignore_remote_code names {pin[1]}" in problems(model, ignore_remote_code=pin[1])


def test_the_opt_in_for_a_locked_model_ends_when_the_lock_moves() -> None:
    def said(pin: str, commit: str) -> str:
        locks = {"hf://acme/tiny@main": {**entry(), "commit": commit, "remote_code": OWN_CODE}}
        models = [{"name": "m", "source": "hf://acme/tiny@main", "ignore_remote_code": pin}]
        return "\n".join(plan(models, locks=locks)[0]["problems"])

    assert said(COMMIT, COMMIT) == ""
    moved = COMMIT.replace("0", "f")
    assert said(COMMIT, moved).startswith("BP504 ") and f"at {moved}, while ignore_remote_code names {COMMIT}" in said(
        COMMIT, moved
    )


def test_a_cut_weight_file_is_refused_with_the_sizes(model: Path) -> None:
    whole = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(whole[:-5])
    assert "BP505" in problems(model) and f"{len(whole)} bytes by its own header" in problems(model)


@pytest.mark.parametrize("content", [b"", b"short", struct.pack("<Q", 10**12), struct.pack("<Q", 4) + b"nope"])
def test_a_file_that_is_no_safetensors_has_no_size(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    assert safetensors_bytes(tmp_path / "x.safetensors") == -1


def test_a_missing_shard_is_refused(model: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "BP505" in problems(model) and "model-00002.safetensors" in problems(model)


@pytest.mark.parametrize("source", ["", "relative/path", "/nowhere", "hf://only-a-name", "hf://org/name", "s3://x/y"])
def test_a_source_of_another_kind_is_refused(source: str) -> None:
    assert "BP501" in problems(source)


def test_misspelt_keys_and_double_names_are_refused(model: Path) -> None:
    assert "BP501" in problems(model, taks="chat")
    twice = plan([{"name": "a", "source": str(model)}, {"name": "a", "source": str(model)}])
    assert all("two models" in entry["problems"][0] for entry in twice)
    assert "BP501" in "".join(plan([{"name": "a/../b", "source": str(model)}])[0]["problems"])


def entry(revision: str = "c0ffee") -> dict[str, Any]:
    """An entry of models.lock."""
    return {
        "repo": "acme/tiny",
        "commit": COMMIT,
        "directory": directory_name("acme/tiny", COMMIT),
        "revision": revision,
    }


def test_a_locked_source_has_its_folder_and_an_unlocked_one_waits_for_a_lock() -> None:
    models = [
        {"name": "one", "source": "hf://acme/tiny@main"},
        {"name": "two", "source": "modelscope://acme/tiny@master"},
    ]
    found = located(plan(models, locks={"hf://acme/tiny@main": entry()}), [], {}, {})
    assert [model["directory"] for model in found] == [f"acme--tiny@{COMMIT[:12]}", ""]
    assert unlocked([*found, *found]) == [{"name": "two", "source": "modelscope://acme/tiny@master"}]


def test_a_published_folder_counts_only_with_the_files_that_are_locked() -> None:
    planned = plan([{"name": "m", "source": "hf://acme/tiny@main"}], locks={"hf://acme/tiny@main": entry()})
    folder = directory_name("acme/tiny", COMMIT)
    for revision, whole in (("c0ffee", True), ("other", False)):
        published = {folder: {"requested": "hf://acme/tiny@main", "revision": revision}}
        (model,) = located(planned, [folder], {"m": folder}, published)
        assert (model["whole"], model["settled"]) == (whole, whole)


def test_a_folder_that_came_by_the_same_source_needs_no_lock() -> None:
    planned = plan([{"name": "m", "source": "https://files.example/tiny/SHA256SUMS"}])
    published = {"web--tiny@0123": {"requested": "https://files.example/tiny/SHA256SUMS", "revision": "0123"}}
    (model,) = located(planned, ["web--tiny@0123"], {}, published)
    assert (model["directory"], model["whole"], model["settled"]) == ("web--tiny@0123", True, False)
    assert unlocked([model]) == []
    assert unlocked(located(planned, [], {}, published)), "a damaged folder stands in for nothing"


def test_a_folder_of_the_controller_that_holds_the_model_is_copied(tmp_path: Path) -> None:
    folder = tmp_path / directory_name("acme/tiny", COMMIT)
    folder.mkdir()
    locks = {"hf://acme/tiny@main": entry()}
    (model,) = plan([{"name": "m", "source": "hf://acme/tiny@main"}], locks=locks, origins=["http://x", str(tmp_path)])
    assert model["copy_from"] == str(folder)


def test_the_receipt_tells_the_service_where_a_model_is() -> None:
    locks = {"hf://acme/tiny@main": entry()}
    models = [{"name": "m", "source": "hf://acme/tiny@main", "dtype": "bfloat16"}]
    assert receipt(located(plan(models, locks=locks), [], {}, {}), "/opt/models") == [
        {
            "name": "m",
            "source": "hf://acme/tiny@main",
            "path": f"/opt/models/acme--tiny@{COMMIT[:12]}",
            "service": {"task": "auto", "dtype": "bfloat16"},
        }
    ]


def test_only_what_the_service_reads_is_fetched() -> None:
    hub = ["README.md", "config.json", "model.safetensors", "pytorch_model.bin", "onnx/model.onnx", "LICENSE", "a.gguf"]
    assert wanted_files(hub) == ["README.md", "config.json", "model.safetensors", "LICENSE"]
    assert "pytorch_model.bin" in wanted_files(["config.json", "pytorch_model.bin"]), "so that it can be refused"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "poet"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4}))
    safetensors(folder / "adapter_model.safetensors")
    return folder


def test_adapters_are_published_like_models_and_named_to_the_service(model: Path, adapter: Path) -> None:
    locks = {"hf://acme/tiny@main": entry()}
    entries = [{"name": "m", "source": str(model), "adapters": {"poet": str(adapter), "clerk": "hf://acme/tiny@main"}}]
    planned = plan(entries, locks=locks)
    assert [(one["name"], one["kind"], one["problems"]) for one in planned] == [
        ("m", "directory", []),
        ("poet", "directory", []),
        ("clerk", "hub", []),
    ]
    found = located(planned, [], {}, {})
    (told,) = receipt(found, "/opt/models")
    assert told["path"] == f"/opt/models/{planned[0]['directory']}"
    assert told["service"]["adapters"] == [
        {"name": one["name"], "path": f"/opt/models/{one['directory']}"} for one in found[1:]
    ]


@pytest.mark.parametrize(
    ("config", "wanted"), [('{"peft_type": "IA3"}', "BP503 .*found peft_type IA3"), ("{", "BP503 .*unreadable")]
)
def test_what_is_no_lora_is_refused(model: Path, adapter: Path, config: str, wanted: str) -> None:
    (adapter / "adapter_config.json").write_text(config)
    found = problems_of_adapter(model, adapter)
    assert re.search(wanted, found), found


def test_a_model_is_no_adapter_and_an_adapter_is_no_model(model: Path, adapter: Path) -> None:
    assert re.search(r"BP501 .*without adapter_config\.json.*Fix: name the folder", problems_of_adapter(model, model))
    assert re.search(r"BP501 .*which is an adapter.*Fix: name it in adapters", problems(adapter))
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    assert "BP502" in problems_of_adapter(model, adapter)


def problems_of_adapter(model: Path, adapter: Path) -> str:
    planned = plan([{"name": "m", "source": str(model), "adapters": {"poet": str(adapter)}}])
    assert not planned[0]["problems"]
    return "\n".join(planned[1]["problems"])
