#!/bin/sh
# The raw lower bound of bench/provision.py: what a person would type, nothing checked, nothing switched, nothing proven.
# Runs on a bare server as root, with the locks beside it.
set -eu
cd /tmp
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends nginx openssl rsync bzip2
python3 -c 'import sys, urllib.request; urllib.request.urlretrieve(sys.argv[1], "installer.sh")' "$INSTALLER_URL"
echo "$INSTALLER_SHA256  installer.sh" | sha256sum --check
sh installer.sh -b -p /opt/raw/conda
/opt/raw/conda/bin/conda create -y -q -p /opt/raw/env --override-channels -c "$CHANNEL" python=3.11 pip
/opt/raw/env/bin/python -m pip install -q --no-compile --require-hashes -r uv.txt
# uv does not read pip's configuration.
setting() { sed -n "s/^$1 *= *//p" /etc/pip.conf 2>/dev/null || :; }
arguments=
for folder in $(setting find-links); do arguments="$arguments --find-links $folder"; done
for index in $(setting extra-index-url); do arguments="$arguments --extra-index-url $index"; done
for lock in $LOCKS; do arguments="$arguments -r $lock"; done
# shellcheck disable=SC2086  # a list of arguments
SSL_CERT_FILE=$(setting cert) /opt/raw/env/bin/uv pip install -q --python /opt/raw/env/bin/python --no-deps --require-hashes \
  --index-strategy unsafe-best-match $arguments
/opt/raw/env/bin/python -c 'import torch, transformers, fastapi; print(torch.ones(2, 2) @ torch.ones(2, 2))'
