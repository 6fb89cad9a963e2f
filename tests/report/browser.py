"""A Chromium without a window, spoken to through a pipe: what a page looks like, and what it complains of."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)  # fmt: skip
_PATIENCE_SECONDS = 120.0


class Browser:
    """Chromium's debugging protocol, messages of JSON that end with a zero byte.

    Args:
        profile: a directory for this browser alone.

    Raises:
        RuntimeError: there is no Chromium.
    """

    def __init__(self, profile: Path) -> None:
        program = next((found for name in _NAMES if (found := shutil.which(name))), None)
        if program is None:
            raise RuntimeError(
                f"The tests of the report's looks need Chromium (looked for {', '.join(_NAMES)}). "
                f"On Debian and Ubuntu: apt-get install -y chromium"
            )
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()

        def set_up() -> None:
            # it reads from 3 and writes to 4; the pipe's own numbers may be these
            spare = [os.dup(to_browser), os.dup(from_browser)]
            os.dup2(spare[0], 3)
            os.dup2(spare[1], 4)

        self._process = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=set_up, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        self._held = b""
        self._count = 0
        self.complaints: list[str] = []
        self.requests: list[str] = []
        targets = self._ask("Target.getTargets")["targetInfos"]
        target = next(one["targetId"] for one in targets if one["type"] == "page")
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for part in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{part}.enable")

    def close(self) -> None:
        """Ends the browser."""
        self._process.terminate()
        self._process.wait(30)
        os.close(self._write)
        os.close(self._read)

    def open(self, path: Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Shows a file."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._ask("Emulation.setEmulatedMedia", features=scheme)
        self._ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.complaints.clear()
        self.requests.clear()
        self._ask("Page.navigate", url=path.resolve().as_uri())
        until = time.monotonic() + _PATIENCE_SECONDS
        while self.ask_page("document.readyState") != "complete" or "about:blank" in self.ask_page("location.href"):
            assert time.monotonic() < until, f"{path} did not load"
            time.sleep(0.05)

    def ask_page(self, expression: str) -> Any:
        """The value of an expression of JavaScript, which the tests may run and the page may not."""
        answer = self._ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def picture(self, path: Path) -> Path:
        """Saves what is seen, from top to bottom of the page."""
        held = self._ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(held["data"]))
        return path

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if hasattr(self, "_session"):
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._count:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self._hear(answer)

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + _PATIENCE_SECONDS
        while b"\0" not in self._held:
            ready, _, _ = select.select([self._read], [], [], max(0.0, until - time.monotonic()))
            more = os.read(self._read, 1 << 16) if ready else b""
            assert more, "Chromium does not answer"
            self._held += more
        message, self._held = self._held.split(b"\0", 1)
        return json.loads(message)

    def _hear(self, event: dict[str, Any]) -> None:
        what, held = event.get("method"), event.get("params", {})
        if what == "Log.entryAdded":
            self.complaints.append(f"{held['entry']['level']}: {held['entry']['text']}")
        elif what == "Runtime.consoleAPICalled":
            self.complaints.append(f"console: {held['args']}")
        elif what == "Runtime.exceptionThrown":
            self.complaints.append(f"exception: {held['exceptionDetails']}")
        elif what == "Network.requestWillBeSent" and not held["request"]["url"].startswith("data:"):
            self.requests.append(held["request"]["url"])
