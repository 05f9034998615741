"""The hub the other tests use is one to the real client: it lists, redirects, gates and fails as the Hub does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from tests.fixtures.hub.faults import Fault
from tests.fixtures.hub.server import Hub, Repository

TOKEN = "hf_only_for_this_test"
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "sub/notes.txt": b"hello",
    "model.safetensors": bytes(range(256)) * 999,
}
WEIGHTS = "acme/tiny/model.safetensors"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    source = tmp_path / "source"
    for name, data in FILES.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    # The other tests of this suite must not reach a hub; these must.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_PROGRESS_BARS", True)
    with Hub({"acme/tiny": Repository(source), "acme/gated": Repository(source, token=TOKEN)}) as running:
        yield running


def fetched(hub: Hub, folder: Path, name: str = "model.safetensors") -> bytes:
    """A file as the real client fetches it."""
    got = hf_hub_download("acme/tiny", name, local_dir=folder, endpoint=hub.url, token=False)
    return Path(got).read_bytes()


def test_the_listing_has_the_commit_a_licence_and_a_hash_for_every_file(hub: Hub) -> None:
    info = HfApi(endpoint=hub.url, token=False).model_info("acme/tiny", files_metadata=True)
    assert info.sha == hub.repositories["acme/tiny"].commit
    assert info.card_data is not None and info.card_data.license == "apache-2.0"
    listed = {one.rfilename: one for one in info.siblings or []}
    assert {name: one.size for name, one in listed.items()} == {name: len(data) for name, data in FILES.items()}
    lfs = listed["model.safetensors"].lfs
    assert lfs is not None and lfs.sha256 == hashlib.sha256(FILES["model.safetensors"]).hexdigest()
    assert listed["config.json"].lfs is None and listed["config.json"].blob_id


def test_a_snapshot_is_the_directory(hub: Hub, tmp_path: Path) -> None:
    snapshot_download("acme/tiny", local_dir=tmp_path / "got", endpoint=hub.url, token=False)
    assert {name: (tmp_path / "got" / name).read_bytes() for name in FILES} == FILES


def test_a_gated_model_needs_the_token_which_does_not_leave_the_hub(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(GatedRepoError):
        HfApi(endpoint=hub.url, token=False).model_info("acme/gated")
    snapshot_download("acme/gated", local_dir=tmp_path / "got", endpoint=hub.url, token=TOKEN)
    assert (tmp_path / "got" / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert hub.leaked == []


def test_what_the_hub_does_not_have_is_named(hub: Hub) -> None:
    api = HfApi(endpoint=hub.url, token=False)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("acme/unknown")
    with pytest.raises(RevisionNotFoundError):
        api.model_info("acme/tiny", revision="v9")


@pytest.mark.parametrize(
    "fault",
    [Fault(status=429, retry_after="0"), Fault(cut=100_000), Fault(hops=3), Fault(delay=0.2)],
    ids=["429", "cut", "redirects", "slow"],
)
def test_what_the_client_survives_the_hub_does_too(hub: Hub, tmp_path: Path, fault: Fault) -> None:
    hub.faults.add(WEIGHTS, fault)
    assert fetched(hub, tmp_path / "got") == FILES["model.safetensors"]
    assert fault.hops or fault.times == 0, "the fault was met"


def test_what_the_client_gives_up_on_reaches_it(hub: Hub, tmp_path: Path) -> None:
    hub.faults.add(WEIGHTS, Fault(status=503))
    with pytest.raises(HfHubHTTPError) as refused:
        fetched(hub, tmp_path / "busy")
    assert refused.value.response.status_code == 503
    hub.faults.add(WEIGHTS, Fault(wrong=True))
    assert fetched(hub, tmp_path / "wrong") != FILES["model.safetensors"]
    hub.faults.add(WEIGHTS, Fault(size=-10, times=99))
    with pytest.raises((OSError, HfHubHTTPError)):
        fetched(hub, tmp_path / "short")
