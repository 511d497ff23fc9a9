"""The pictures of README and documentation: what a reader without them, in the dark, or offline gets."""

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from support import ROOT

PICTURES = sorted((ROOT / "docs" / "images").glob("*.svg"))


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_picture_is_complete_in_itself(picture: Path) -> None:
    text = picture.read_text()
    root = ElementTree.fromstring(text)  # noqa: S314  # our own file
    assert "viewBox" in root.attrib, "a phone scales it"
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"https?:|url\(|@import|<script|<image", text.replace("http://www.w3.org/2000/svg", "")), (
        "a picture fetches nothing"
    )


def test_readme_describes_each_picture() -> None:
    images = re.findall(r"<img ([^>]+)>", (ROOT / "README.md").read_text())
    sources = [match[1] for image in images if (match := re.search(r'src="([^"]+)"', image))]
    assert {ROOT / source for source in sources} == set(PICTURES)
    assert all(re.search(r'alt="[^"]{40,}"', image) for image in images)


def test_recording_shows_what_was_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    monkeypatch.setattr(sys, "path", [*sys.path])  # which the scripts extend
    import demo
    import record

    header = f"{'':14}{demo.OURS}   {demo.STOCK}"
    output = f"a step <1> & more\n{header}\n  {'killed':12}{'at head':18}failed\n"
    root = ElementTree.fromstring(record.picture(output))  # noqa: S314
    texts = {text.text: text.get("class") for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert texts.keys() == {"$ python scripts/demo.py", "a step <1> & more", demo.OURS, demo.STOCK} | {
        "killed",
        "at head",
        "failed",
    }
    assert (texts["at head"], texts["failed"]) == ("ours", "stock")
