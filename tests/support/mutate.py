"""Changes to files as a careless program or an ill-meaning person makes them, drawn from a `random.Random`: the same seed
changes the same file in the same way."""

import copy
import json
import re
import struct
from random import Random
from typing import Any

Drawn = tuple[bytes, str]  # the changed file, and what was done to it

NUMBERS = (0, 1, -1, 2, 0.5, -0.0, 1e308, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**30, -(10**30))
WORDS = (
    "", "x", "\x00", "../../etc/passwd", "/etc/passwd", "a" * 300, "a" * 100_000, "\ud800", "é\u202e", "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07", "<script>alert(1)</script>", "{{7*7}}", "[/x]", "[bold]", "%s%n", "\n---\n", "no", "null", "nan", "1",
    "0" * 64, "a/b", "/", ".", "fr", "zh-Hans", "| a | b |", "`x`", "](javascript:x)",
)  # fmt: skip
# Text that Python's own writer does not make
RAW = (
    "NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "[" * 500 + "]" * 500, "[" * 100_000 + "]" * 100_000,
    '{"a":' * 100_000 + "1" + "}" * 100_000, '"\\ud800"', "1.0000000000000001", "01", "1E400", "'x'",
)  # fmt: skip
MARK = "@@raw {}@@"


def places(data: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to every value of JSON data; of a long list to its first forty."""
    found = [place] if place else []
    inner = data.items() if isinstance(data, dict) else enumerate(data[:40]) if isinstance(data, list) else ()
    for key, value in inner:
        found += places(value, (*place, key))
    return found


def value(old: Any, random: Random, raw: list[str]) -> Any:
    """Something else in the place of `old`; what only text can say is put into `raw`."""
    if random.random() < 0.15:
        raw.append(random.choice(RAW))
        return MARK.format(len(raw) - 1)
    choices: list[Any] = [None, True, False, [], {}, [None], [[1], [2]], {"x": 1}, ["x"], *NUMBERS[:6]]
    choices += [random.choice(NUMBERS), random.choice(WORDS), random.choice(WORDS)]
    if isinstance(old, bool):
        choices += [not old] * 4
    elif isinstance(old, (int, float)):
        choices += [old + 1, old - 1, -old, old * 2, float(old), str(old), [old], old + 0.5, old * 10**6]
    elif isinstance(old, str):
        choices += [
            old + "x",
            old[:-1],
            old.upper(),
            old + "\n",
            old + "\x00",
            f"../{old}",
            [old],
            {"a": old},
            old * 50,
        ]
    elif isinstance(old, list):
        choices += [old + old, old[:-1], old[1:], old[::-1], [*old, None], old * 30, dict(enumerate(map(str, old)))]
    elif isinstance(old, dict):
        choices += [list(old), {**old, "extra": 1}, {key.upper(): own for key, own in old.items()}, {**old, "": None}]
    return random.choice(choices)


def data(old: Any, random: Random) -> Drawn:
    """JSON data with one to three values set, removed, doubled, renamed or exchanged."""
    made, raw, done = copy.deepcopy(old), [], []
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        known = places(made)
        if not known or random.random() < 0.02:
            made = value(made, random, raw)
            done.append("all of it")
            break
        place = random.choice(known)
        inside = made
        for key in place[:-1]:
            inside = inside[key]
        what, key = random.choice(("set", "set", "set", "remove", "double", "rename", "exchange")), place[-1]
        if what == "remove":
            del inside[key]
        elif what == "double" and isinstance(inside, list):
            inside.insert(key, copy.deepcopy(inside[key]))
        elif what == "rename" and isinstance(inside, dict):
            inside[random.choice((f"{key}x", key.upper(), *WORDS))] = inside.pop(key)
        elif what == "exchange" and isinstance(inside, dict):
            other = random.choice(list(inside))
            inside[key], inside[other] = inside[other], inside[key]
        else:
            inside[key] = value(inside[key], random, raw)
        done.append(f"{what} {'.'.join(map(str, place))[:60]}")
    text = json.dumps(made, ensure_ascii=random.random() < 0.5)
    for number, own in enumerate(raw):
        text = text.replace(json.dumps(MARK.format(number)), own)
    return text.encode("utf-8", "surrogatepass"), "; ".join(done)


def text(old: bytes, random: Random) -> Drawn:
    """The bytes of a text file changed."""
    at, made = random.randrange(len(old) + 1), bytearray(old)
    what = random.choice(
        ("flip", "cut", "insert", "mark", "utf-16", "twice", "no utf-8", "more", "empty", "only", "remove", "deep", "number",
         "latin-1", "aliases", "lines")
    )  # fmt: skip
    if what == "flip":
        for _ in range(random.choice((1, 1, 3, 10)) if old else 0):
            made[random.randrange(len(made))] ^= 1 << random.randrange(8)
    elif what == "cut":
        del made[at:]
    elif what == "insert":
        odd = (b"\xff", b"\x00", b"\\u0000", b"{", b"}", b'"', b"[", b"&a ", b"*a ", b"!!python/name:os.system ", b"<<: ",
               b"\xed\xa0\x80", b"NaN", b"9" * 6000, b"\x1b[2J", b"\r")  # fmt: skip
        made[at:at] = random.choice(odd)
    elif what == "mark":
        made[:0] = random.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"))
    elif what in ("utf-16", "latin-1"):
        made = bytearray(old.decode("utf-8", "replace").encode(what, "replace"))
    elif what == "twice":
        end = old.find(b",")
        made = made[: end + 1] + made[1:] if end > 0 else made + made
    elif what == "no utf-8":
        made[at:at] = bytes([random.randrange(128, 256)]) * random.choice((1, 2, 50))
    elif what == "more":
        made += random.choice((b"x", b"\x00" * 10, b"{}", b" " * 100_000, b"\n---\n"))
    elif what == "empty":
        made.clear()
    elif what == "only":
        made = bytearray(random.choice((b"null", b"[]", b"{}", b"1", b'"x"', b"NaN", b"true", b"   ", b"\x00")))
    elif what == "remove":
        del made[at : at + random.choice((1, 2, 10, 100))]
    elif what == "deep":
        deep, (left, right) = random.choice((90, 900, 200_000)), random.choice((("[", "]"), ('{"a":', "}")))
        made = bytearray((left * deep + "1" + right * deep).encode())
    elif what == "number":
        if found := list(re.finditer(rb"-?\d+", old)):
            one = random.choice(found)
            made[one.start() : one.end()] = random.choice(
                (b"9" * 20, b"9" * 400, b"9" * 100_000, b"-1", b"1E400", b"0x10")
            )
    elif what == "aliases":
        bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
        made = bytearray(b"---\n" + bomb.encode() + b"---\n" if old.startswith(b"---") else old + b"\n" + bomb.encode())
    elif what == "lines":
        lines = bytes(old).splitlines(keepends=True)
        random.shuffle(lines)
        made = bytearray(b"".join(lines))
    return bytes(made), what


def json_text(old: bytes, random: Random) -> Drawn:
    """A JSON file changed in its values, or in its bytes."""
    return data(json.loads(old), random) if random.random() < 0.75 else text(old, random)


def any_bytes(old: bytes, random: Random) -> Drawn:
    """Any file changed in its bytes."""
    made, what = bytearray(old), random.choice(("flip", "flip", "cut", "insert", "remove", "fill", "splice", "empty"))
    at, count = random.randrange(len(old)), random.choice((1, 4, 8, 100))
    if what == "flip":
        for _ in range(random.choice((1, 1, 2, 8, 40))):
            made[random.randrange(len(made))] = random.randrange(256)
    elif what == "cut":
        del made[at:]
    elif what == "insert":
        made[at:at] = random.randbytes(count)
    elif what == "remove":
        del made[at : at + count]
    elif what == "fill":
        made[at : at + count] = random.choice((b"\x00", b"\xff")) * count
    elif what == "splice":
        other = random.randrange(len(old))
        made[at : at + count] = old[other : other + count]
    else:
        made.clear()
    return bytes(made), what


def safetensors(old: bytes, random: Random) -> Drawn:
    """A safetensors file changed in its header, in the numbers, or in its bytes."""
    (length,) = struct.unpack("<Q", old[:8])
    head, body = json.loads(old[8 : 8 + length]), old[8 + length :]
    what = random.choice(("values", "values", "text", "offset", "dtype", "shape", "length", "same place", "name", "metadata",
                          "body", "bytes", "number", "more", "order"))  # fmt: skip
    if what == "values":
        header, told = data(head, random)
        return struct.pack("<Q", len(header)) + header + body, f"header: {told}"
    if what == "text":
        header, told = text(old[8 : 8 + length], random)
        return struct.pack("<Q", len(header)) + header + body, f"header: {told}"
    if what == "bytes":
        return any_bytes(old, random)
    if what == "length":
        odd = random.choice(
            (0, 1, 7, length - 1, length + 1, len(old) - 8, len(old), 10**8 + 1, 2**31, 2**63, 2**64 - 1)
        )
        return struct.pack("<Q", odd) + old[8:], what
    names = [name for name in head if name != "__metadata__"]
    name, other = random.choice(names), random.choice(names)
    entry = head[name]
    shape, (begin, end) = entry["shape"], entry["data_offsets"]
    if what == "offset":
        near = [entry["data_offsets"][0] + by for by in (-1, 1, 4, -4, 8, 10**6)]
        entry["data_offsets"][random.randrange(2)] = random.choice((*near, *NUMBERS, "0", None))
    elif what == "dtype":
        known = (
            "F16",
            "BF16",
            "F32",
            "F64",
            "I8",
            "U8",
            "I64",
            "BOOL",
            "F8_E4M3",
            "F4",
            "C64",
            "f32",
            "",
            "XX",
            None,
            5,
            [],
        )
        entry["dtype"] = random.choice(known)
    elif what == "shape":
        odd_shapes = (shape[::-1], [*shape, 1], [1, *shape], [], [0], [0, *shape], shape[:-1], [-n for n in shape],
                      [2**32] * 2, [2**63], [10**400], [1] * 5000 + shape, [n + 1 for n in shape],
                      [float(n) for n in shape], [True] * 2,
                      "8", None, [[8]])  # fmt: skip
        entry["shape"] = random.choice(odd_shapes)
    elif what == "same place":
        head[other]["data_offsets"] = [begin, end]
    elif what == "name":
        odd_name = random.choice(
            (f"{name}x", f"model.{name}", name.replace("0", "1"), name.replace("0", "99999"), *WORDS)
        )
        head[odd_name] = head.pop(name)
    elif what == "metadata":
        head["__metadata__"] = random.choice((None, [], {}, {"format": None}, {"a": 1}, "x", {"x": "y" * 10**6}, 5,
                                              {"monoglot_statistics": "{}"}, {"\x1b[2J": "\x1b[2J"}))  # fmt: skip
    elif what == "body":
        body = random.choice((body[:-1], body + b"\x00", b"", body[: len(body) // 2]))
    elif what == "number":
        odd = random.choice((b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\0\0\x80\xff", b"\xff\xff\x7f\x7f", b"\1\0\0\0"))
        at = begin + 4 * random.randrange(max(1, (end - begin) // 4))
        body = body[:at] + odd + body[at + 4 :]
    elif what == "more":
        head["more"] = {"dtype": "F32", "shape": [0, 5], "data_offsets": [0, 0]}
    elif what == "order":
        head = dict(reversed(head.items()))
    header = json.dumps(head, ensure_ascii=True).encode()
    return struct.pack("<Q", len(header)) + header + body, f"{what} {name}"


def gguf(old: bytes, random: Random) -> Drawn:
    """A GGUF file changed in its header, where the numbers and names are."""
    header = max(old.rfind(b".weight"), old.rfind(b".bias")) + 32
    made, what = bytearray(old), random.choice(("64 bits", "64 bits", "32 bits", "flip", "cut", "word", "version", "counts",
                                                 "bytes"))  # fmt: skip
    at = random.randrange(4, header)
    if what == "64 bits":
        likely = [n for n in range(8, header - 8) if made[n] and made[n + 2 : n + 8] == bytes(6)]
        at = random.choice(likely or [at])
        (was,) = struct.unpack_from("<Q", made, at)
        odd = (0, 1, 2, 255, 2**16, 2**31, 2**32, 2**40, 2**62, 2**63, 2**64 - 1, was + 1, max(0, was - 1), was + 32)
        struct.pack_into("<Q", made, at, random.choice(odd))
    elif what == "32 bits":
        likely = [n for n in range(4, header - 4) if 0 < made[n] < 50 and made[n + 1 : n + 4] == bytes(3)]
        struct.pack_into("<I", made, random.choice(likely or [at]), random.choice((*range(45), 2**31, 2**32 - 1)))
    elif what == "flip":
        for _ in range(random.choice((1, 1, 3))):
            made[random.randrange(4, header)] = random.randrange(256)
    elif what == "cut":
        del made[random.choice((at, random.randrange(len(made)))) :]
    elif what == "word":
        pairs = ((b"general.architecture", b"general.architecturX"), (b"llama", b"\xff\xfe\xfd\xfc\xfb"),
                 (b"blk.0", b"blk.1"), (b"blk.0", b"blk.9"), (b"ffn_up", b"ffn_xx"), (b"Tiny", b"\x1b[2J"),
                 (b"block_count", b"block_cXunt"),
                 (b"llama.", b"gemma."), (b"weight", b"wei\x00ht"))  # fmt: skip
        was_word, now = random.choice(pairs)
        made = bytearray(old.replace(was_word, now, random.choice((1, -1))))
    elif what == "version":
        struct.pack_into("<I", made, 4, random.choice((0, 1, 2, 4, 3 << 24, 2**32 - 1)))
    elif what == "counts":
        odd = (0, 1, 2, 5, 8, 10**4 + 1, 10**6, 2**32, 2**63, 2**64 - 1)
        struct.pack_into("<Q", made, random.choice((8, 16)), random.choice(odd))
    else:
        return any_bytes(old, random)
    return bytes(made), what
