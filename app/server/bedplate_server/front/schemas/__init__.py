"""What clients may ask for, one module per endpoint. A field that is not there is refused by name, never ignored."""
