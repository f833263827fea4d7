"""The assignment of rows to columns with the largest total score (Hungarian algorithm).

Shortest augmenting paths with potentials, O(n³): Jonker and Volgenant 1987, as in e-maxx.
"""

from __future__ import annotations

import numpy as np

from ..ir.dtypes import Array


def best_assignment(score: Array) -> Array:
    """int64 [n]: the column of every row of a square matrix; each column is taken once."""
    cost = score.max() - np.asarray(score, np.float64)
    n = len(cost)
    row_price, column_price = np.zeros(n + 1), np.zeros(n + 1)
    row_of = np.full(n + 1, n)  # of a column; column n holds the row being placed
    for row in range(n):
        row_of[n] = row
        column, slack = n, np.full(n, np.inf)
        came_from, done = np.full(n, n), np.zeros(n + 1, bool)
        while row_of[column] != n:
            done[column] = True
            at = row_of[column]
            open_ = ~done[:n]
            reduced = cost[at] - row_price[at] - column_price[:n]
            better = open_ & (reduced < slack)
            slack[better], came_from[better] = reduced[better], column
            best = int(np.where(open_, slack, np.inf).argmin())
            step = slack[best]
            row_price[row_of[done]] += step
            column_price[done] -= step
            slack[open_] -= step
            column = best
        while column != n:
            previous = came_from[column]
            row_of[column] = row_of[previous]
            column = previous
    columns = np.empty(n, np.int64)
    columns[row_of[:n]] = np.arange(n)
    return columns
