# SPDX-License-Identifier: BSD-2-Clause
"""redis-cell's algorithm as it is published, in whole numbers: the oracle of CL.THROTTLE."""

SECOND = 10 ** 9

# (ms, quantity, remaining, reset_after in ms, retry_after in ms, limited): what redis-cell's own test records for 5 at
# once and 1 a second (src/cell/mod.rs, it_rate_limits).
RECORDED = [
    (0, 6, 5, 0, -1000, 1),
    (0, 1, 4, 1000, -1000, 0), (0, 1, 3, 2000, -1000, 0), (0, 1, 2, 3000, -1000, 0), (0, 1, 1, 4000, -1000, 0),
    (0, 1, 0, 5000, -1000, 0), (0, 1, 0, 5000, 1000, 1),
    (3000, 1, 2, 3000, -1000, 0), (3100, 1, 1, 3900, -1000, 0), (4000, 1, 1, 4000, -1000, 0),
    (8000, 1, 4, 1000, -1000, 0), (9500, 1, 4, 1000, -1000, 0), (9500, 0, 4, 1000, -1000, 0),
    (9500, 2, 2, 3000, -1000, 0), (9500, 5, 2, 3000, 3000, 1),
]


def seconds(ns):
    """As the module says them: a begun second counts from its first millisecond on."""
    whole = abs(ns) // SECOND * (1 if ns >= 0 else -1)
    return whole + 1 if ns >= 0 and ns % SECOND >= 10 ** 6 else whole


def interval_of(count, period):
    return int(float(period * SECOND) / float(count))


class Cell:
    """One key."""

    def __init__(self):
        self.tat = None

    def throttle(self, now, burst, count, period, quantity=1):
        """now in ns. The five numbers of the reply."""
        interval = interval_of(count, period)
        tolerance, increment = interval * (burst + 1), interval * quantity
        tat = now if self.tat is None else self.tat
        new = max(now, tat) + increment
        retry = -SECOND
        if now - (new - tolerance) < 0:
            limited, ttl = 1, tat - now
            if increment <= tolerance:
                retry = new - tolerance - now
        else:
            limited, ttl = 0, new - now
            self.tat = new
        left, unit = tolerance - ttl, 1000 if interval >= 1000 else 1
        remaining = (left // unit) // (interval // unit) if left > 0 else 0
        return [limited, burst + 1, remaining, seconds(retry), seconds(ttl)]
