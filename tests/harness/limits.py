# SPDX-License-Identifier: BSD-2-Clause
"""What the tests of rate limits have in common."""


def rule(name, rate, burst=0, **more):
    """[[rate_limit]] in TOML."""
    lines = ["[[rate_limit]]", 'name = "%s"' % name, 'rate = "%s"' % rate]
    lines += ["burst = %d" % burst] if burst else []
    for key, value in more.items():
        text = "true" if value is True else str(value) if isinstance(value, int) else '["%s"]' % '", "'.join(value) \
            if isinstance(value, list) else '"%s"' % value
        lines.append("%s = %s" % (key, text))
    return "\n".join(lines) + "\n"


def passed(conn, words, times):
    """How many of a pipeline of the same command are not refused."""
    return sum(not r.startswith(b"-RATELIMITED") for r in conn.pipeline([words] * times))


def told(conn, name, field):
    for row in conn.cmd("KEYWEIR", "RATELIMITS"):
        row = dict(zip(row[::2], row[1::2])) if isinstance(row, list) else row
        if row[b"name"] == name.encode():
            return row[field.encode()]
    raise AssertionError("no rule " + name)
