# SPDX-License-Identifier: BSD-2-Clause
"""The picture of tests/bench/bench: two groups of bars as plain SVG."""
COLOURS = {"direct": "#9aa0a6", "haproxy": "#5b8def", "nutcracker": "#e0a458", "keyweir": "#2a9d67"}
WIDTH, HEIGHT, BAR, GAP = 760, 300, 26, 34
TOP, BOTTOM = 60, 230


def text(x, y, words, size=12, anchor="middle", weight="normal"):
    return '<text x="%.1f" y="%.1f" font-size="%d" text-anchor="%s" font-weight="%s">%s</text>' % (
        x, y, size, anchor, weight, words)


def group(rows, column, label, left, limit):
    """Bars of one column for the three depths; what is higher than limit is cut and says how high it is."""
    out = [text(left, TOP - 26, label, 13, "start", "bold")]
    x = left
    for depth in (1, 16, 100):
        case = [r for r in rows if r["case"] == "GET 3 B P=%d" % depth and column in r]
        if column == "x haproxy CPU":
            case = [r for r in case if r["target"] != "direct"]
        first = x
        for row in case:
            value = row[column]
            height = min(value, limit) / limit * (BOTTOM - TOP)
            out.append('<rect x="%.1f" y="%.1f" width="%d" height="%.1f" fill="%s"/>' % (
                x, BOTTOM - height, BAR - 4, height, COLOURS[row["target"]]))
            out.append(text(x + (BAR - 4) / 2, BOTTOM - height - 4, "%.2f" % value if value < 9.95 else "%.0f" % value, 10))
            x += BAR
        out.append(text((first + x - 4) / 2, BOTTOM + 16, "P=%d" % depth))
        x += GAP
    return out


def draw(rows, path):
    """Writes the picture of the forwarded GET, when it was measured."""
    if not any(r["case"] == "GET 3 B P=16" for r in rows):
        return
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" fill="#333">' % (
        WIDTH, HEIGHT), '<rect width="%d" height="%d" fill="#fff"/>' % (WIDTH, HEIGHT)]
    out += group(rows, "x direct", "requests/s, against Redis directly", 20, 1.15)
    out += group(rows, "x haproxy CPU", "the proxy's CPU a request, against HAProxy's", 430, 2.2)
    x = 20
    for name, colour in COLOURS.items():
        out.append('<rect x="%d" y="268" width="12" height="12" fill="%s"/>' % (x, colour))
        out.append(text(x + 18, 278, {"direct": "Redis directly", "haproxy": "HAProxy (TCP)"}.get(name, name.capitalize()),
                        12, "start"))
        x += 140
    out.append("</svg>")
    with open(path, "w", encoding="ascii") as file:
        file.write("\n".join(out) + "\n")
