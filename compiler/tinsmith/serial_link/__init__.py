"""The host's side of the serial link between a board and this machine (docs/serial.md)."""
