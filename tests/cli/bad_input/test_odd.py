"""Checkpoints that are odd, but fine."""

import json
import struct
from pathlib import Path

from support.bad_input import EDIT, Place, make_index, shard, tensor_bytes

from monoglot.editor.files.checkpoint import read_checkpoint


def add_tensors(path: Path) -> None:
    """A tensor without dimensions, empty ones, and one of an unusual dtype."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    end = len(data)
    header["zero"] = {"dtype": "F32", "shape": [0, 5], "data_offsets": [end, end]}
    header["scalar"] = {"dtype": "F64", "shape": [], "data_offsets": [end, end + 8]}
    header["table"] = {"dtype": "F8_E4M3", "shape": [3, 1, 1], "data_offsets": [end + 8, end + 11]}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data + b"\x7f" * 11)


def test_odd_tensors_and_empty_shards(place: Place) -> None:
    add_tensors(shard(place))
    make_index(place, "model-00001-of-00002.safetensors", move_to=place.model / "model-00001-of-00002.safetensors")
    empty = place.model / "model-00002-of-00002.safetensors"
    empty.write_bytes(struct.pack("<Q", 2) + b"{}")
    assert place.bake().code == 0
    for name in ("zero", "scalar", "table"):
        assert tensor_bytes(read_checkpoint(place.out), name) == tensor_bytes(read_checkpoint(place.model), name)


def test_config_comes_along_as_it_is(place: Place) -> None:
    text = (place.model / "config.json").read_bytes().rstrip() + b"\n\n \n"
    (place.model / "config.json").write_bytes(text)
    (place.model / "merges.txt").write_bytes(b"")
    assert place.bake(*EDIT, "--no-compat-config").code == 0
    assert (place.out / "config.json").read_bytes() == text
    assert (place.out / "merges.txt").read_bytes() == b""


def test_read_only_files_and_links_become_plain_files(place: Place) -> None:
    blobs = place.root / "blobs"
    blobs.mkdir()
    for path in sorted(place.model.iterdir()):
        path.chmod(0o444)
        path.rename(blobs / path.name)
        path.symlink_to(Path("..") / "blobs" / path.name)
    place.model.chmod(0o555)
    try:
        assert place.bake(*EDIT, "--no-compat-config").code == 0
    finally:
        place.model.chmod(0o755)
    for path in place.out.iterdir():
        assert path.is_file() and not path.is_symlink() and path.stat().st_mode & 0o600 == 0o600
    assert read_checkpoint(place.out).config == read_checkpoint(place.model).config
