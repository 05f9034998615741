"""The front process: HTTP, keys, text, streaming. It imports neither torch nor any model code."""
