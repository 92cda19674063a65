"""ICC profiles of colour spaces that cameras and phones use."""

import struct

# D50 colorants of Adobe RGB (1998) and of Display P3, as their profiles have them.
ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))


def profile(colorants: tuple[tuple[float, ...], ...], name: str, gamma: float = 2.2) -> bytes:
    """A matrix profile (ICC.1:2001-04) of these red, green and blue."""

    def fixed(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    text = name.encode() + b"\0"
    described = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78)
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    white = b"XYZ " + bytes(4) + b"".join(map(fixed, (0.9642, 1.0, 0.8249)))
    parts = [(b"desc", described), (b"wtpt", white)]
    parts += [(tag, curve) for tag in (b"rTRC", b"gTRC", b"bTRC")]
    for tag, colour in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants, strict=True):
        parts.append((tag, b"XYZ " + bytes(4) + b"".join(map(fixed, colour))))
    at, table, body = 132 + 12 * len(parts), struct.pack(">I", len(parts)), b""
    for tag, data in parts:
        padded = data + bytes(-len(data) % 4)
        table += tag + struct.pack(">II", at + len(body), len(data))
        body += padded
    head = struct.pack(">I4sI4s4s4s", 0, b"    ", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head = head.ljust(36, b"\0") + b"acsp"
    head = head.ljust(68, b"\0") + b"".join(map(fixed, (0.9642, 1.0, 0.8249)))
    whole = head.ljust(128, b"\0") + table + body
    return struct.pack(">I", len(whole)) + whole[4:]
