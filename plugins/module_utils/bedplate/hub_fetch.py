"""Ask a Hugging Face Hub for a model's files and fetch them. A program of its own, run by the Python that has huggingface_hub.

Takes one JSON object on standard input, token included, so that the token is in no process list and no file:
    {"do": "list", "endpoint", "token", "repo", "revision"}            -> {"commit", "licence", "files": [{path, size, sha256, git}]}
    {"do": "fetch", "endpoint", "token", "repo", "revision", "paths", "folder"} -> {}
Prints one JSON object; a failure is {"error", "message"} and exit status 1.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import Any


def listing(ask: dict[str, Any]) -> dict[str, Any]:
    api = import_module("huggingface_hub").HfApi(endpoint=ask["endpoint"], token=ask["token"] or False)
    info = api.model_info(ask["repo"], revision=ask["revision"], files_metadata=True)
    files = [
        {"path": one.rfilename, "size": one.size, "sha256": one.lfs.sha256 if one.lfs else None, "git": one.blob_id}
        for one in info.siblings
    ]
    licence = (info.card_data or {}).get("license") if info.card_data else None
    return {"commit": info.sha, "licence": licence, "files": files}


def fetch(ask: dict[str, Any]) -> dict[str, Any]:
    hub = import_module("huggingface_hub")
    for path in ask["paths"]:
        hub.hf_hub_download(
            ask["repo"],
            path,
            revision=ask["revision"],
            local_dir=ask["folder"],
            endpoint=ask["endpoint"],
            token=ask["token"] or False,
        )
    return {}


def main() -> int:
    ask = json.load(sys.stdin)
    os.environ.update(HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_OFFLINE="0")
    try:
        answer = {"list": listing, "fetch": fetch}[ask["do"]](ask)
    except Exception as error:  # every failure becomes an answer the role can explain
        print(json.dumps({"error": type(error).__name__, "message": " ".join(str(error).split())[:400]}))
        return 1
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
