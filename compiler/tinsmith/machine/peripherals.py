"""What a board has besides core and memory: its UART, a pin, and what must be set up at start."""

from __future__ import annotations

import msgspec


class Serial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The UART that firmware for the serial link uses.

    driver: of `runtime_c/serial/uart_<driver>.c`. address: of its registers. baud: bits per second.
    clock_hz: what it divides; 0: the core's. rate_scale: its rate register holds so many times the
    quotient of clock and rate. slowest, fastest: the rates that it has within 1 %; 0: any.
    """

    driver: str
    address: int
    baud: int = 115_200
    clock_hz: int = 0
    rate_scale: int = 1
    slowest: int = 0
    fastest: int = 0


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A register to change before the firmware starts, and what to wait for.

    name: for the reader. address: of the word. clear, set: bits, cleared first. until_set,
    until_clear: then it waits until the word has them so. pause: then it turns an empty loop so
    often.
    """

    name: str
    address: int
    clear: int = 0
    set: int = 0
    until_set: int = 0
    until_clear: int = 0
    pause: int = 0


class Word(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is written where. address: of the word. value: all of it."""

    address: int
    value: int


class Pin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pin of which firmware for the MLPerf Tiny runner makes timestamps in energy mode.

    setup: makes it an output, after the board's own set-up. high, low: write these to drive it.
    """

    high: Word
    low: Word
    setup: list[Step] = []
