"""Loops of the inner blocks: how much of one is written out."""

from __future__ import annotations


def loop(steps: int, body: int) -> dict[str, int]:
    """`steps` repetitions as rounds × body + rest, the code of rest and one body being written."""
    rounds = -(-steps // body)
    length = steps // rounds if rounds else 0
    return {"rounds": rounds, "body": length, "rest": steps - rounds * length}
