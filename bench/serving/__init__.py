"""How the inference service compares with its peers on this machine; see __main__.py."""
