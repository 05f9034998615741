"""The paths the service answers, one module per group."""
