"""Pages in one file that open offline: a template, with the style and the helpers that all share."""

import json
from pathlib import Path

from joanna import files

_FOLDER = Path(__file__).parent


def write(path: Path, template: str, data: dict) -> None:
    """Write a page; `template` is a file of this folder that holds STYLE, SCRIPT and DATA."""
    html = _read(template).replace("STYLE", _read("page.css"), 1).replace("SCRIPT", _read("page.js"), 1)
    text = json.dumps(data).replace("<", "\\u003c")  # "</script>" in a name would end the data
    files.write_text(path, html.replace("DATA", text, 1) + "\n")


def _read(name):
    return (_FOLDER / name).read_text(encoding="utf-8").rstrip("\n")
