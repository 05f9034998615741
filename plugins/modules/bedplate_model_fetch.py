#!/usr/bin/python
# Copyright: The Bedplate developers
# SPDX-License-Identifier: Apache-2.0
"""Fetch a model from a Hugging Face Hub into its incoming folder, every byte proven against what the Hub lists."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bedplate_model_fetch
short_description: Fetch a model's files from a Hub
description:
  - Resolves the revision to a commit, refuses what must not be served (pickles, own code, no disk) before the first byte, fetches
    the files the service reads and proves each against the Hub's sha256 (small files; against their git hash).
  - The files lie in the incoming folder then; the module C(bedplate_tree) publishes them.
options:
  name:
    description: Name the model is served by.
    type: str
    required: true
  repo:
    description: Repository, C(org/name).
    type: str
    required: true
  revision:
    description: Commit, tag or branch.
    type: str
    required: true
  endpoint:
    description: Address of the Hub.
    type: str
    required: true
  token:
    description: Token for gated models.
    type: str
    default: ""
  python:
    description: A Python that has huggingface_hub.
    type: path
    required: true
  models:
    description: Folder of the published models.
    type: path
    required: true
author: The Bedplate developers
"""

EXAMPLES = r"""
- name: Fetch a model
  bedplate_model_fetch:
    name: qwen
    repo: Qwen/Qwen3-0.6B
    revision: main
    endpoint: "{{ hf_endpoint }}"
    python: /opt/bedplate/envs/inference/bin/python
    models: /opt/bedplate/models
"""

RETURN = r"""
directory:
  description: Folder name of the model, C(org--name@rev12).
  returned: success
  type: str
manifest:
  description: What the tree has to hold.
  returned: success
  type: dict
"""

import hashlib
import inspect
import json
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.bedplate import hub_fetch
from ansible.module_utils.bedplate.hostfacts import free_bytes, read_text
from ansible.module_utils.bedplate.manifest import sha256_of, tree_revision
from ansible.module_utils.bedplate.model_source import directory_name, model_problems, wanted_files
from ansible.module_utils.bedplate.refusal import refusal
from ansible.module_utils.bedplate.tree import open_incoming

SPARE = 1.02  # of the bytes to fetch: file system blocks, the manifest
FIXES = {
    "RepositoryNotFoundError": "check the name in model_list; for a private model set model_hub_token.",
    "RevisionNotFoundError": "check the revision after @ in model_list.",
    "GatedRepoError": "accept the model's terms on its page and set model_hub_token (ansible-vault).",
}


def ask_hub(module, **ask):
    """Run hub_fetch with the environment's Python; the token goes through standard input."""
    common = {key: module.params[key] for key in ("endpoint", "token", "repo")}
    command = [module.params["python"], "-I", "-c", inspect.getsource(hub_fetch)]
    done = subprocess.run(command, input=json.dumps({**common, **ask}), capture_output=True, text=True, check=False)
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        answer = {"error": "no answer", "message": done.stderr[-400:]}
    if "error" in answer:
        fix = FIXES.get(
            answer["error"], "check that the server reaches hf_endpoint (proxy, mirror, certificates), then run again."
        )
        found = f"{answer['error']}: {answer['message']}"
        fail(
            module,
            refusal(
                "BP510", f"{module.params['endpoint']} does not give {module.params['repo']}", found, "its files", fix
            ),
        )
    return answer


def fail(module, *problems):
    module.fail_json(msg="\n".join(problems))


def is_proven(path, entry):
    """Whether a fetched file is what the Hub lists: by sha256 for big files, by git's blob hash for small ones."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size != entry["size"]:
        return False
    if entry["sha256"]:
        return sha256_of(path) == entry["sha256"]
    blob = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(blob) + blob).hexdigest() == entry["git"]


def fetch(module, commit, folder, entries):
    """Fetch what is not there yet and prove it."""
    missing = [entry for entry in entries if not is_proven(folder / entry["path"], entry)]
    for entry in missing:
        (folder / entry["path"]).unlink(missing_ok=True)
    if missing:
        ask_hub(module, do="fetch", revision=commit, folder=str(folder), paths=[entry["path"] for entry in missing])
    wrong = [entry["path"] for entry in missing if not is_proven(folder / entry["path"], entry)]
    if wrong:
        for path in wrong:
            (folder / path).unlink(missing_ok=True)
        fix = "run again; if it stays, the mirror of hf_endpoint is damaged."
        fail(
            module,
            refusal(
                "BP511", f"{module.params['repo']}: wrong bytes", ", ".join(wrong[:3]), "the Hub's own hashes", fix
            ),
        )


def main():
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "repo": {"type": "str", "required": True},
            "revision": {"type": "str", "required": True},
            "endpoint": {"type": "str", "required": True},
            "token": {"type": "str", "default": "", "no_log": True},
            "python": {"type": "path", "required": True},
            "models": {"type": "path", "required": True},
        },
        supports_check_mode=False,
    )
    name, repo, models = module.params["name"], module.params["repo"], Path(module.params["models"])
    source = f"hf://{repo}@{module.params['revision']}"
    listed = ask_hub(module, do="list", revision=module.params["revision"])
    commit = listed["commit"]
    wanted = set(wanted_files(entry["path"] for entry in listed["files"]))
    entries = sorted((entry for entry in listed["files"] if entry["path"] in wanted), key=lambda entry: entry["path"])

    dest = models / directory_name(repo, commit)
    folder = open_incoming(dest, {"files": [{**entry, "sha256": entry["sha256"] or ""} for entry in entries]}, (0, 0))
    small = [entry for entry in entries if entry["path"].endswith(".json")]
    fetch(module, commit, folder, small)
    problems = model_problems(
        name, source, entries, {entry["path"]: read_text(folder / entry["path"]) or "" for entry in small}
    )
    needed = int(SPARE * sum(entry["size"] for entry in entries if not (folder / entry["path"]).exists()))
    free = free_bytes(folder)
    if needed > free:
        fix = f"free {(needed - free) / 1e9:.1f} GB there, or choose a smaller model."
        problems.append(
            refusal(
                "BP506",
                f"model {name} does not fit on the disk",
                f"{free / 1e9:.1f} GB free in {models}",
                f"{needed / 1e9:.1f} GB",
                fix,
            )
        )
    if problems:
        fail(module, *problems)
    fetch(module, commit, folder, entries)

    digests = {entry["path"]: entry["sha256"] or sha256_of(folder / entry["path"]) for entry in entries}
    files = [{"path": entry["path"], "size": entry["size"], "sha256": digests[entry["path"]]} for entry in entries]
    manifest = {
        "repo": repo,
        "source": "hub",
        "requested": f"{repo}@{module.params['revision']}",
        "commit": commit,
        "revision": tree_revision(files),
        "licence": listed["licence"],
        "bytes": sum(entry["size"] for entry in files),
        "files": files,
    }
    module.exit_json(changed=True, directory=dest.name, manifest=manifest)


if __name__ == "__main__":
    main()
