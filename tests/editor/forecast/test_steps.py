"""A forecast as a record: sums, what there is too little of, and where the room is looked for."""

import json
import shutil
from pathlib import Path

from monoglot.editor.forecast.steps import Forecast, Step, free_memory, with_free

STEPS = (Step("detect", "reads", 60.0, 2e9), Step("search", "writes", 30.0, 5e9, most=True))


def test_sums() -> None:
    made = Forecast("m", 10, {"fr": 5}, STEPS, {"out": (10, 20)}, "cpu", "float32", 6 * 10**9, ("a note",))
    assert (made.seconds, made.memory, made.problems) == (90.0, 5e9, [])
    data = json.loads(json.dumps(made.to_data()))
    assert data["memory"] == {"needed": 5 * 10**9, "free": 6 * 10**9} and data["disk"]["out"] == {
        "needed": 10,
        "free": 20,
    }
    assert [step["at_most"] for step in data["steps"]] == [False, True]


def test_what_there_is_too_little_of() -> None:
    made = Forecast("m", 10, {}, STEPS, {"out": (3 * 10**9, 10**9)}, "cpu", None, 10**9)
    assert made.problems == [
        "out has 1.00 GB free, 3.00 GB are needed.",
        "1.0 GB of memory are free, 5.0 GB are needed.",
    ]
    assert Forecast("m", 10, {}, (), {}, "mps", None, None).problems == []


def test_room_is_looked_for_where_the_folder_would_be(tmp_path: Path) -> None:
    place = tmp_path / "a" / "b" / "out"
    ((_, (need, free)),) = with_free({place: 7}).items()
    assert need == 7 and abs(free - shutil.disk_usage(tmp_path).free) < 10**9
    assert not (tmp_path / "a").exists()


def test_memory_that_is_free() -> None:
    found = free_memory("cpu")
    assert found is None or found > 10**7
