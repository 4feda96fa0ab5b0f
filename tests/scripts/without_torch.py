"""All that runs without torch, on the Python that runs this: every file compiles, every module can be imported, every help
text is that of docs/commands.md, and `inspect` reads the embedded model. For Pythons that torch is too large for: `make
oldest`.
"""

import importlib
import sys
from pathlib import Path

from monoglot.editor.describe import describe
from scripts import help_texts

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("cards", "cli", "editor")

if __name__ == "__main__":
    for path in sorted(path for room in (*ROOMS, "tests") for path in (ROOT / room).rglob("*.py")):
        compile(path.read_text(encoding="utf-8"), path, "exec")
        name = path.relative_to(ROOT)
        if name.parts[0] in ROOMS and path.name != "__main__.py":
            importlib.import_module(".".join(("monoglot", *name.with_suffix("").parts)).removesuffix(".__init__"))
    if "torch" in sys.modules:
        sys.exit("torch is imported where no command needs it yet.")
    if help_texts.PAGE.read_text(encoding="utf-8") != help_texts.page():
        sys.exit("docs/commands.md has other help texts. Write them: make commands")
    if not describe("embedded")["editable"]:
        sys.exit("The embedded model is not one that can be edited.")
    print(f"Python {sys.version.split()[0]}: everything that needs no torch runs.")
