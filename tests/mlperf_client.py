"""A client of the MLPerf Tiny runner's protocol, written to its specification.

Sources: mlcommons/tiny, benchmark/api (messages) and benchmark/runner (how the runner asks): every
command ends in '%' and is answered by lines up to "m-ready"; data goes in hexadecimal, at most 31
bytes a command; answers begin with "m-", errors with "e-".
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from tinsmith.serial_link.line import Line

_BYTES_PER_COMMAND = 31


class RunnerError(Exception):
    """The device answered with an error."""


@dataclass
class Runner:
    """energy: the device's timestamps are edges on a pin, and no messages."""

    line: Line
    energy: bool = False
    _pending: bytes = b""

    def lines(self, seconds: float = 30.0) -> list[str]:
        """What the device says until it is ready."""
        found, end = [], time.monotonic() + seconds
        while time.monotonic() < end:
            *whole, self._pending = (self._pending + self.line.read(0.1)).split(b"\r\n")
            for i, line in enumerate(whole):
                found.append(line.decode("ascii"))
                if found[-1] == "m-ready":
                    assert whole[i + 1 :] == [], "the device spoke unasked"
                    return found[:-1]
        raise TimeoutError(f"no m-ready after {found}")

    def ask(self, command: str) -> list[str]:
        """Raises RunnerError for an answer that begins with "e-"."""
        self.line.write(f"{command}%".encode("ascii"))
        answer = self.lines()
        for line in answer:
            if line.startswith("e-"):
                raise RunnerError(line)
        return answer

    def load(self, data: bytes) -> None:
        assert self.ask(f"db load {len(data)}") == [f"m-[Expecting {len(data)} bytes]"]
        for at in range(0, len(data), _BYTES_PER_COMMAND):
            answer = self.ask(f"db {data[at : at + _BYTES_PER_COMMAND].hex()}")
            last = at + _BYTES_PER_COMMAND >= len(data)
            assert answer == (["m-load-done"] if last else [])

    def buffer(self) -> bytes:
        rows = [re.fullmatch(r"m-buffer-([0-9a-f-]+)", line) for line in self.ask("db print")]
        assert all(rows)
        return bytes.fromhex("".join(row[1].replace("-", "") for row in rows if row))

    def started(self) -> None:
        """What the device says after a reset."""
        mode, *laps, done = self.lines()
        assert mode == f"m-timestamp-mode-{'energy' if self.energy else 'performance'}"
        assert [bool(re.fullmatch(r"m-lap-us-\d+", lap)) for lap in laps] == [True] * (
            not self.energy
        )
        assert done == "m-init-done"

    def infer(self, count: int, warm_ups: int) -> tuple[list[float], float]:
        """The results, and the microseconds of one inference, which energy mode does not say."""
        answer = self.ask(f"infer {count} {warm_ups}")
        if self.energy:
            start, done, begin, end, results = answer
            assert (start, done) == (f"m-warmup-start-{warm_ups}", "m-warmup-done")
            assert (begin, end) == (f"m-infer-start-{count}", "m-infer-done")
            return _results(results), float("nan")
        start, done, begin, lap, lap_2, end, results = answer
        assert (start, done) == (f"m-warmup-start-{warm_ups}", "m-warmup-done")
        assert (begin, end) == (f"m-infer-start-{count}", "m-infer-done")
        first, second = (int(re.fullmatch(r"m-lap-us-(\d+)", line)[1]) for line in (lap, lap_2))
        return _results(results), (second - first) / count

    def results(self) -> list[float]:
        (line,) = self.ask("results")
        return _results(line)


def _results(line: str) -> list[float]:
    found = re.fullmatch(r"m-results-\[(-?\d+\.\d{3}(?:,-?\d+\.\d{3})*)\]", line)
    assert found, line
    return [float(number) for number in found[1].split(",")]
