"""`pdm run recording`: run the demo, and write what it prints as the picture docs/images/demo.svg.

The picture is a terminal after the run. It fetches nothing, and has colours for light and dark.
"""

import os
import subprocess
import sys
from pathlib import Path
from xml.sax.saxutils import escape

from demo import OURS, STOCK

DEMO = ("python", "scripts/demo.py")
ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "demo.svg"
COLUMNS = 58  # characters of a line: few, so that a phone shows them
CHARACTER, LINE, MARGIN = 8.4, 20, 20  # pixels
STYLE = """
    text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #1f2328 }
    rect { fill: #f6f8fa; stroke: #d1d9e0 }
    .command { font-weight: 600 } .ours { fill: #1a7f37; font-weight: 600 } .stock { fill: #bc4c00 }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc } rect { fill: #0d1117; stroke: #3d444d }
      .ours { fill: #3fb950 } .stock { fill: #f0883e }
    }
"""


def main() -> None:
    """Write the picture."""
    command, environment = [sys.executable, *DEMO[1:]], os.environ | {"COLUMNS": str(COLUMNS)}
    process = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    print(process.stdout, end="")
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(picture(process.stdout), encoding="utf-8")


def picture(output: str) -> str:
    """A terminal as SVG.

    Args:
        output: what the demo has printed.
    """
    lines = [f"$ {' '.join(DEMO)}", *output.splitlines()]
    header = next(number for number, line in enumerate(lines) if line.rstrip().endswith(STOCK))
    columns = [0, lines[header].index(OURS), lines[header].index(STOCK), COLUMNS]
    rows = []
    for number, line in enumerate(lines):
        y = MARGIN + (number + 0.75) * LINE
        bounds = columns if number >= header and line.startswith("  ") else [0, COLUMNS]
        classes = ["command"] * 3 if number in (0, header) else ["", "ours", "stock"]
        for class_, begin, end in zip(classes, bounds, bounds[1:], strict=False):
            rows.append(_text(class_, begin, y, line[begin:end]))
    width, height = round(COLUMNS * CHARACTER) + 2 * MARGIN, len(lines) * LINE + 2 * MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img" aria-label="What pdm run demo prints">',
            f"  <style>{STYLE}  </style>",
            f'  <rect x="1" y="1" width="{width - 2}" height="{height - 2}" rx="12"/>',
            *filter(None, rows),
            "</svg>\n",
        ]
    )


def _text(class_: str, column: int, y: float, text: str) -> str:
    """A text at its place, as wide as it should be in any font; empty for no text."""
    column += len(text) - len(text.lstrip())
    text = text.strip()
    x, length = MARGIN + column * CHARACTER, len(text) * CHARACTER
    attributes = f'class="{class_}" x="{x:.1f}" y="{y:g}" textLength="{length:.1f}" lengthAdjust="spacingAndGlyphs"'
    return f"  <text {attributes}>{escape(text)}</text>" if text else ""


if __name__ == "__main__":
    main()
