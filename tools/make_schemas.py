"""Writes schemas/*.v1.json and schemas/codes.md; a test compares them with what the code says."""

import json
from pathlib import Path

from sfray.commands.schemas import codes_table, schema_document, schema_names


def main() -> None:
    folder = Path(__file__).parent.parent / "schemas"
    for name in schema_names():
        text = json.dumps(schema_document(name), indent=2) + "\n"
        (folder / f"{name}.v1.json").write_text(text, encoding="utf-8")
    (folder / "codes.md").write_text(codes_table(), encoding="utf-8")


if __name__ == "__main__":
    main()
