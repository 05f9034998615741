"""What the service's tests share: tiny models, and the service as a real process."""
