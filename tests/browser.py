"""A page in headless Chromium: what a script that looks at it says, at some width."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PROGRAM = next((path for path in map(shutil.which, NAMES) if path is not None), None)
CATCHING = """<script>window.faults = [];
addEventListener("error", e => faults.push(String(e.message)));
addEventListener("unhandledrejection", e => faults.push(String(e.reason)));
console.error = (...words) => faults.push(words.join(" "));</script>"""
TELLING = """<script>addEventListener("load", () => setTimeout(async () => {
  let told;
  try { told = await (async () => { %s })(); } catch (error) { told = {fault: String(error.stack || error)}; }
  parent.postMessage(JSON.stringify({...told, faults}), "*");
}, 300));</script>"""
FRAME = """<!doctype html><body style="margin:0"><pre id="told"></pre>
<iframe src="%s" style="width:%dpx;height:900px;border:0"></iframe><script>
addEventListener("message", e => { document.getElementById("told").textContent = e.data; });</script>"""


def asked(page: Path, script: str, width: int, folder: Path) -> dict[str, Any]:
    """What `script`, the body of an async function, returns on a copy of the page that is so many pixels wide.

    What went wrong on the page itself is in `faults`.
    """
    assert PROGRAM is not None
    html = page.read_text()
    copy, frame = folder / f"copy-{width}.html", folder / f"frame-{width}.html"
    html = html.replace("<head>", f"<head>{CATCHING}", 1).replace("</body>", f"{TELLING % script}</body>", 1)
    copy.write_text(html)
    frame.write_text(FRAME % (copy.as_uri(), width))
    ended = subprocess.run(
        [
            *(PROGRAM, "--headless", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
            *(["--no-sandbox"] if os.getuid() == 0 else []),
            *("--allow-file-access-from-files", f"--user-data-dir={folder / 'profile'}"),
            *(f"--window-size={width + 40},1000", "--virtual-time-budget=15000", "--dump-dom", frame.as_uri()),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    match = re.search(r'<pre id="told">(.+?)</pre>', ended.stdout, re.DOTALL)
    assert match is not None, ended.stderr[-2000:]
    told: dict[str, Any] = json.loads(match[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    return told
