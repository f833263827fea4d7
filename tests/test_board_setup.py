"""What physical boards do first and their UART, against a model of their registers: clocks, wait
states, voltage, pins, rates, and in which order. Register maps: RM0432, RM0385, RM0456.

Long: three chips, each with a model of the registers that its set-up touches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest

from tinsmith.errors import CompileError
from tinsmith.machine.board import Board, load_board
from tinsmith.machine.peripherals import Step
from tinsmith.toolchain.harness import with_uart

from .register_model import Firmware, Machine

MHZ = 1_000_000
HSI = 16 * MHZ


@dataclass(frozen=True)
class Chip:
    """machine: after a reset. clocks: of core and UART in Hz, as the registers now say. pins:
    (GPIO, pin, alternate function) of transmitter and receiver. edge: the pin of timestamps."""

    machine: Callable[[], Machine]
    clocks: Callable[[Machine], tuple[float, float]]
    pins: tuple[tuple[int, int, int], ...]
    edge: tuple[int, int]


def _l4() -> Machine:
    """STM32L4R5, at reset on MSI, in range 1 normal."""
    rcc, pwr, flash, gpio, uart = 0x40021000, 0x40007000, 0x40022000, 0x48001800, 0x40008000
    m = Machine(words={rcc: 0x63, flash: 0x600, pwr: 0x200, pwr + 0x80: 0x100, gpio: 0xFFFFFFFF})
    m.words[uart + 0x1C] = 0xC0
    m.ready = {
        (rcc, 1 << 8): (rcc, 1 << 10),
        (rcc, 1 << 24): (rcc, 1 << 25),
        (rcc + 8, 3): (rcc + 8, 3 << 2),
    }
    m.clocked = {
        gpio: (rcc + 0x4C, 1 << 6),
        0x48001400: (rcc + 0x4C, 1 << 5),
        uart: (rcc + 0x5C, 1),
        pwr: (rcc + 0x58, 1 << 28),
    }

    def switch(value: int) -> None:
        if value & 3 == 3 and m.field(rcc + 8, 0, 2) != 3:
            m.expect(m.field(rcc, 25, 1) == 1, "the PLL is not ready")
            m.expect(m.field(flash, 0, 4) >= 5, "120 MHz needs 5 wait states")
            m.expect(m.field(pwr + 0x80, 8, 1) == 0, "above 80 MHz needs R1MODE = 0")
            m.expect(value >> 4 & 15 == 8, "the step above 80 MHz goes through AHB / 2")

    def pll(value: int) -> None:
        m.expect(m.field(rcc, 24, 1) == 0, "PLLCFGR is written while the PLL runs")

    def pins(value: int) -> None:
        m.expect(m.field(pwr + 4, 9, 1) == 1, "PG2 to PG15 need IOSV")

    def start(value: int) -> None:
        m.expect(not value >> 24 & 1 or m.field(rcc, 10, 1) == 1, "the PLL has no clock")

    m.at_write = {rcc: start, rcc + 8: switch, rcc + 0xC: pll, gpio: pins}
    return m


def _l4_clocks(m: Machine) -> tuple[float, float]:
    rcc = 0x40021000
    assert m.field(rcc + 8, 0, 2) == 3
    assert (m.field(rcc + 0xC, 0, 2), m.field(rcc + 0xC, 24, 1)) == (2, 1)  # HSI16, PLLREN
    reference = HSI / (m.field(rcc + 0xC, 4, 4) + 1)
    vco = reference * m.field(rcc + 0xC, 8, 7)
    assert 2.66 * MHZ <= reference <= 16 * MHZ
    assert 64 * MHZ <= vco <= 344 * MHZ
    assert m.field(rcc + 8, 4, 4) == 0  # AHB
    assert m.field(rcc + 0x88, 10, 2) == 2  # LPUART1 from HSI16
    return vco / (2 + 2 * m.field(rcc + 0xC, 25, 2)), HSI


def _f7() -> Machine:
    """STM32F746, at reset on HSI."""
    rcc, pwr, flash, uart = 0x40023800, 0x40007000, 0x40023C00, 0x40011000
    m = Machine(words={rcc: 0x83, rcc + 4: 0x24003010, pwr: 0xC000, 0xE000ED80: 0xF00FE019})
    m.words |= {0x40020000: 0xA8000000, 0x40020400: 0x280, uart + 0x1C: 0xC0}
    m.ready = {
        (rcc, 1 << 16): (rcc, 1 << 17),
        (rcc, 1 << 24): (rcc, 1 << 25),
        (rcc + 8, 2): (rcc + 8, 2 << 2),
        (pwr, 1 << 16): (pwr + 4, 1 << 16),
        (pwr, 1 << 17): (pwr + 4, 1 << 17),
    }
    m.clocked = {
        0x40020000: (rcc + 0x30, 1),
        0x40020400: (rcc + 0x30, 2),
        0x40022000: (rcc + 0x30, 1 << 8),
        uart: (rcc + 0x44, 1 << 4),
        pwr: (rcc + 0x40, 1 << 28),
    }

    def switch(value: int) -> None:
        if value & 3 == 2:
            m.expect(m.field(rcc, 25, 1) == 1, "the PLL is not ready")
            m.expect(m.field(flash, 0, 4) >= 7, "216 MHz needs 7 wait states")
            m.expect(m.field(pwr + 4, 16, 2) == 3, "216 MHz needs over-drive")
            m.expect(m.field(rcc + 8, 10, 3) >= 5, "APB1 is at most 54 MHz")
            m.expect(m.field(rcc + 8, 13, 3) >= 4, "APB2 is at most 108 MHz")

    def pll(value: int) -> None:
        m.expect(m.field(rcc, 24, 1) == 0, "PLLCFGR is written while the PLL runs")

    def power(value: int) -> None:
        switching = value >> 17 & 1
        m.expect(not switching or m.field(pwr + 4, 16, 1) == 1, "over-drive is not ready")

    def caches(value: int) -> None:
        lines = {v for at, v in m.log if at == 0xE000EF60}
        every = {way << 30 | set_ << 5 for way in range(4) for set_ in range(128)}
        m.expect(lines == every, "the data cache is not empty")
        m.expect((0xE000EF50, 0) in m.log, "the instruction cache is not empty")
        m.expect(value >> 16 & 3 == 3, "a cache is off")

    def start(value: int) -> None:
        m.expect(not value >> 24 & 1 or m.field(rcc, 17, 1) == 1, "the PLL has no clock")

    m.at_write = {rcc: start, rcc + 8: switch, rcc + 4: pll, pwr: power, 0xE000ED14: caches}
    return m


def _f7_clocks(m: Machine) -> tuple[float, float]:
    rcc = 0x40023800
    assert m.field(rcc + 8, 0, 2) == 2
    assert m.field(rcc + 4, 22, 1) == 1  # HSE
    assert 0xE000ED14 in m.words  # the caches
    reference = 25 * MHZ / m.field(rcc + 4, 0, 6)
    vco = reference * m.field(rcc + 4, 6, 9)
    assert 0.95 * MHZ <= reference <= 2.1 * MHZ
    assert 100 * MHZ <= vco <= 432 * MHZ
    core = vco / (2 + 2 * m.field(rcc + 4, 16, 2))
    assert m.field(rcc + 0x90, 0, 2) == 0  # USART1 from APB2
    return core, core / {4: 2, 5: 4, 6: 8, 7: 16}[m.field(rcc + 8, 13, 3)]


def _u5() -> Machine:
    """STM32U575, at reset on MSIS, in range 4."""
    rcc, pwr, flash, gpio, uart = 0x46020C00, 0x46020800, 0x40022000, 0x42020000, 0x40013800
    m = Machine(words={rcc: 0x35, rcc + 0x34: 0x01010280, gpio: 0xABFFFFFF, uart + 0x1C: 0xC0})
    m.ready = {
        (rcc, 1 << 8): (rcc, 1 << 10),
        (rcc, 1 << 24): (rcc, 1 << 25),
        (rcc + 0x1C, 3): (rcc + 0x1C, 3 << 2),
        (pwr + 0xC, 3 << 16): (pwr + 0xC, 1 << 15),
        (pwr + 0xC, 1 << 18): (pwr + 0xC, 1 << 14),
    }
    m.clocked = {
        gpio: (rcc + 0x8C, 1),
        0x42021400: (rcc + 0x8C, 1 << 5),
        uart: (rcc + 0xA4, 1 << 14),
    }

    def switch(value: int) -> None:
        if value & 3 == 3:
            m.expect(m.field(rcc, 25, 1) == 1, "PLL1 is not ready")
            m.expect(m.field(rcc + 0x28, 18, 1) == 1, "output R of PLL1 is off")
            m.expect(m.field(flash, 0, 4) >= 4, "160 MHz needs 4 wait states")
            m.expect(m.field(pwr + 0xC, 14, 5) == 0b11111, "160 MHz needs range 1, boosted")

    def pll(value: int) -> None:
        changed = (value ^ m.words.get(rcc + 0x28, 0)) & 0xFFFF
        m.expect(not changed or m.field(rcc, 24, 1) == 0, "PLL1 is changed while it runs")

    def voltage(value: int) -> None:
        m.expect(m.field(rcc + 0x94, 2, 1) == 1, "PWR is used before it has a clock")
        if value >> 18 & 1:
            m.expect(m.field(pwr + 0xC, 15, 1) == 1, "the voltage is not ready")
            m.expect(m.field(rcc + 0x28, 0, 2) != 0, "the booster has no clock")

    def start(value: int) -> None:
        m.expect(not value >> 24 & 1 or m.field(rcc, 10, 1) == 1, "PLL1 has no clock")

    m.at_write = {rcc: start, rcc + 0x1C: switch, rcc + 0x28: pll, pwr + 0xC: voltage}
    return m


def _u5_clocks(m: Machine) -> tuple[float, float]:
    rcc = 0x46020C00
    assert m.field(rcc + 0x1C, 0, 2) == 3
    assert m.field(rcc + 0x28, 0, 2) == 2  # HSI16
    reference = HSI / (m.field(rcc + 0x28, 8, 4) + 1)
    booster = HSI / max(1, 2 * m.field(rcc + 0x28, 12, 4))
    vco = reference * (m.field(rcc + 0x34, 0, 9) + 1)
    assert 8 * MHZ <= reference <= 16 * MHZ
    assert m.field(rcc + 0x28, 2, 2) == 3  # and PLL1RGE says so
    assert 4 * MHZ <= booster <= 16 * MHZ
    assert 128 * MHZ <= vco <= 544 * MHZ
    assert m.field(0x40030400, 0, 1) == 1  # ICACHE
    assert m.field(rcc + 0xE0, 0, 2) == 0  # USART1 from APB2, which is as fast as the core
    core = vco / (m.field(rcc + 0x34, 24, 7) + 1)
    return core, core


CHIPS = {
    "nucleo-l4r5zi": Chip(
        _l4, _l4_clocks, ((0x48001800, 7, 8), (0x48001800, 8, 8)), (0x48001400, 13)
    ),
    "stm32f746g-disco": Chip(
        _f7, _f7_clocks, ((0x40020000, 9, 7), (0x40020400, 7, 7)), (0x40022000, 3)
    ),
    "nucleo-u575zi": Chip(
        _u5, _u5_clocks, ((0x42020000, 9, 7), (0x42020000, 10, 7)), (0x42021400, 13)
    ),
}


def _firmware(name: str, folder: Path, board: Board | None = None) -> Firmware:
    return Firmware(folder, board or load_board(name), CHIPS[name].machine())


@pytest.mark.parametrize("name", CHIPS)
def test_clocks_and_pins_are_what_the_board_says(name: str, tmp_path: Path) -> None:
    board, firmware = load_board(name), _firmware(name, tmp_path)
    before = dict(firmware.machine.words)
    firmware.set_up()
    m = firmware.machine
    assert board.serial is not None
    assert CHIPS[name].clocks(m) == (board.clock_hz, board.serial.clock_hz)
    for gpio, pin, function in CHIPS[name].pins:
        assert m.field(gpio, 2 * pin, 2) == 2
        assert m.field(gpio + 0x20 + pin // 8 * 4, pin % 8 * 4, 4) == function
    for gpio in {g for g, _, _ in CHIPS[name].pins}:  # the other pins are as they were
        for pin in set(range(16)) - {p for g, p, _ in CHIPS[name].pins if g == gpio}:
            assert m.field(gpio, 2 * pin, 2) == before[gpio] >> 2 * pin & 3


@pytest.mark.parametrize("name", CHIPS)
def test_every_rate_is_within_one_percent(name: str, tmp_path: Path) -> None:
    board = load_board(name)
    uart = board.serial
    assert uart is not None
    for baud in (uart.slowest, 9600, 115_200, 921_600, uart.fastest):
        firmware = _firmware(name, tmp_path / str(baud), with_uart(board, "serial", baud))
        firmware.set_up()
        firmware.open()
        m = firmware.machine
        held = m.words[uart.address + 0xC]
        clock = CHIPS[name].clocks(m)[1]
        low, high = (0x300, 0xFFFFF) if uart.rate_scale == 256 else (16, 0xFFFF)
        assert low <= held <= high
        assert clock * uart.rate_scale / held == pytest.approx(baud, rel=0.01)
        assert m.words[uart.address] == 0b1101  # on, both directions, 8 bits, no parity
        assert m.words[uart.address + 8] >> 12 & 1  # a lost byte does not stop the next
    for baud in (uart.slowest - 1, uart.fastest + 1):
        with pytest.raises(CompileError, match="has no"):
            with_uart(board, "serial", baud)


@pytest.mark.parametrize("name", CHIPS)
def test_bytes_go_in_and_out(name: str, tmp_path: Path) -> None:
    firmware = _firmware(name, tmp_path)
    firmware.set_up()
    firmware.open()
    m, uart = firmware.machine, load_board(name).serial
    assert uart is not None
    assert firmware.read() == -1
    m.words[uart.address + 0x1C] |= 1 << 5
    m.words[uart.address + 0x24] = 0x1A5
    assert firmware.read() == 0xA5
    firmware.send(0x5A)
    assert m.log[-1] == (uart.address + 0x28, 0x5A)


@pytest.mark.parametrize("name", CHIPS)
def test_the_pin_of_timestamps_is_an_output_that_is_high(name: str, tmp_path: Path) -> None:
    board = with_uart(load_board(name), "mlperf-tiny-energy")
    firmware = _firmware(name, tmp_path, board)
    m, (gpio, pin) = firmware.machine, CHIPS[name].edge
    m.words.setdefault(gpio, 0xFFFFFFFF)
    firmware.set_up()
    assert m.field(gpio, 2 * pin, 2) == 1
    written = [word for word in m.log if word[0] & ~0x3FF == gpio]
    assert [address for address, _ in written[-2:]] == [gpio + 0x18, gpio]  # BSRR before MODER
    assert written[-2][1] == 1 << pin
    assert board.pin is not None
    low = board.pin.low
    assert (low.address, low.value) == (gpio + 0x18, 1 << pin + 16)


# These say again what a reset leaves.
SAFE = {
    "nucleo-l4r5zi": set[str](),
    "stm32f746g-disco": {"PWR_CR1: scale 1", "RCC_DKCFGR2: USART1 from APB2"},
    "nucleo-u575zi": {"RCC_CCIPR1: USART1 from APB2"},
}


LAG = 9  # reads; the steps that change a word read it less often
# What the model does at once: a word keeps what is written, and the clock switches, caches empty.
AT_ONCE = {
    "nucleo-l4r5zi": {"FLASH_ACR: 5 wait states, both caches", "RCC_CFGR: the PLL"},
    "stm32f746g-disco": {"FLASH_ACR: 7 wait states", "RCC_CFGR: the PLL"},
    "nucleo-u575zi": {
        "FLASH_ACR: 4 wait states, prefetch",
        "RCC_CFGR1: PLL1",
        "ICACHE_SR: it is empty",
    },
}


@pytest.mark.parametrize("name", CHIPS)
def test_the_model_misses_every_step_that_is_left_out(name: str, tmp_path: Path) -> None:
    board = load_board(name)
    assert not _objects(name, tmp_path / "whole", _without_any_wait(board))
    unnoticed = set[str]()
    for index, step in enumerate(board.setup):
        changed = replace(board, setup=(*board.setup[:index], *board.setup[index + 1 :]))
        writes = step.set | step.clear
        if writes and not _objects(name, tmp_path / str(index), _without_any_wait(changed)):
            unnoticed.add(step.name)
    assert unnoticed == SAFE[name]


@pytest.mark.parametrize("name", CHIPS)
def test_the_model_misses_every_wait_that_is_left_out(name: str, tmp_path: Path) -> None:
    board = load_board(name)
    assert not _objects(name, tmp_path / "whole", board, lag=LAG)
    unnoticed = set[str]()
    for index, step in enumerate(board.setup):
        if step.until_set or step.until_clear:
            hasty = (*board.setup[:index], _without_waits(step), *board.setup[index + 1 :])
            changed = replace(board, setup=hasty)
            if not _objects(name, tmp_path / str(index), changed, lag=LAG):
                unnoticed.add(step.name)
    assert unnoticed == AT_ONCE[name]


def _objects(name: str, folder: Path, board: Board, lag: int = 0) -> bool:
    """Whether the model finds something wrong."""
    machine = CHIPS[name].machine()
    machine.lag = lag
    firmware = Firmware(folder, board, machine)
    try:
        firmware.set_up()
        firmware.open()
        assert CHIPS[name].clocks(machine)[0] == board.clock_hz
        for gpio, pin, function in CHIPS[name].pins:
            assert machine.field(gpio, 2 * pin, 2) == 2
            assert machine.field(gpio + 0x20 + pin // 8 * 4, pin % 8 * 4, 4) == function
    except (AssertionError, KeyError):
        return True
    return False


def _without_any_wait(board: Board) -> Board:
    return replace(board, setup=tuple(_without_waits(s) for s in board.setup))


def _without_waits(step: Step) -> Step:
    return msgspec.structs.replace(step, until_set=0, until_clear=0)
