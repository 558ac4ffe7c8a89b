"""A look at a page in a real browser: headless Chromium, as Debian packages it."""

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

# Appended to a copy of the page: what the browser made of it, as JSON in an element of its own.
PROBE = """
<script>
addEventListener("error", (event) => { errors.push(event.message); });
addEventListener("securitypolicyviolation", (event) => { errors.push(event.violatedDirective); });
const errors = [];
addEventListener("load", () => {
  const images = [...document.images];
  const slider = document.querySelector("input[type=range]");
  const shown = () => images.filter((image) => image.checkVisibility()).map((image) => image.dataset.step);
  const seen = {
    errors,
    fetched: performance.getEntriesByType("resource").map((entry) => entry.name),
    images: images.length,
    decoded: images.filter((image) => image.complete && image.naturalWidth > 0).length,
    lines: [...document.querySelectorAll("svg .line")].map((line) => line.getTotalLength()),
    charts: [...document.querySelectorAll("figcaption")].map((caption) => caption.textContent),
    colours: [...document.querySelectorAll("svg .line")].map((line) => getComputedStyle(line).stroke),
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    background: getComputedStyle(document.body).backgroundColor,
    shown: shown(),
  };
  if (slider) {
    slider.value = 0;
    slider.dispatchEvent(new Event("input"));
    seen.shownAtFirst = shown();
  }
  const result = document.createElement("pre");
  result.id = "seen";
  result.textContent = JSON.stringify(seen);
  document.body.append(result);
});
</script>
"""


def look(page: Path, tmp_path: Path, width: int = 1200, dark: bool = False) -> dict:
    """What a browser of this width sees of the file `page`. Skips the test where there is none, but not in CI."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        assert os.environ.get("CI") != "true", "CI must have Chromium: apt-get install chromium"
        pytest.skip("needs Chromium: apt-get install chromium")
    probed = tmp_path / "probed.html"
    text = page.read_text(encoding="utf-8")
    assert text.count("<head>") == 1
    probed.write_text(text.replace("<head>", "<head>" + PROBE), encoding="utf-8")
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += [f"--window-size={width},900", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000"]
    command += ["--blink-settings=preferredColorScheme=0"] if dark else []
    result = subprocess.run((*command, "--dump-dom", probed.as_uri()), capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    seen = json.loads(unescape(re.search(r'<pre id="seen">(.*?)</pre>', result.stdout, re.DOTALL)[1]))
    return seen | {"console": [line for line in result.stderr.splitlines() if "CONSOLE" in line]}
