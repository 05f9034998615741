"""A model that this server could not serve is refused before a byte of it is copied, and the one of before serves on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ops.inventory import Host
from ops.paths import TUTOR
from ops.service import Service
from tests.site.conftest import Play, explain


def test_a_model_whose_memory_is_not_there_is_refused_with_the_arithmetic(
    server: Host, site: Play, service: Service, tmp_path: Path
) -> None:
    long = tmp_path / "long"
    shutil.copytree(TUTOR, long)
    config = json.loads((long / "config.json").read_text())
    (long / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 2**30}))
    # A conversation of 2^28 tokens: half a terabyte of keys and values.
    models = [{"name": "long", "source": str(long), "task": "both", "context_length": 2**28}]
    outcome = site("playbooks/application.yml", model_list=models)
    assert not outcome.ok
    message = outcome.run.failures[0].message
    assert "BP530" in message and f"32 x {2**28} tokens" in message and "Fix: context_length: " in message, explain(
        outcome
    )
    assert outcome.run.changed == 0
    with server.connection() as connection:
        assert connection.run("! ls -d /opt/bedplate/models/*long*", warn=True, hide=True).ok
    assert service.chat("What is Bedplate?")[0] == "tutor"
