"""The engine process: one loaded model, continuous batching. It knows nothing of HTTP and text."""
