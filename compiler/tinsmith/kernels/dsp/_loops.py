"""Loops of the inner blocks: how much of one is written out."""

from __future__ import annotations


def loop(steps: int, body: int) -> dict[str, int]:
    """`steps` repetitions as rounds × body + rest, the code of rest and one body being written.

    body: the longest one. Up to a quarter more rounds are taken where they save code.
    """
    fewest = -(-steps // body)
    rounds = min(range(fewest, fewest + fewest // 4 + 1), key=lambda n: _written(steps, n))
    length = steps // rounds if rounds else 0
    return {"rounds": rounds, "body": length, "rest": steps - rounds * length}


def _written(steps: int, rounds: int) -> int:
    return steps // rounds + steps % rounds if rounds else 0
