"""A real headless Chromium, driven over the WebDriver protocol (plain JSON over HTTP: no client library is needed)."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
]


class Browser:
    """One window. `profile` is a new, empty folder. Use it as a context manager: the processes end with it."""

    def __init__(self, profile: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.process = subprocess.Popen(
            [str(DRIVER), f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.root = f"http://127.0.0.1:{port}"
        options = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        try:
            self._wait_for_driver()
            self.root += (
                "/session/" + self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
            )
        except BaseException:
            self._stop()
            raise

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._call("DELETE", "")
        finally:
            self._stop()

    def open(self, file: Path, *, width: int = 1280, dark: bool = False) -> None:
        """Shows a file from disk in a window of this width, and waits until its scripts have run."""
        self.console()  # what earlier pages said
        self.emulate(width=width, dark=dark)
        self._call("POST", "/url", {"url": file.resolve().as_uri()})
        self.wait("document.documentElement.dataset.ready === 'true'")

    def emulate(self, *, width: int, dark: bool, height: int = 900) -> None:
        """A window of this size on a system in light or dark colours; narrow ones count as phones."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700}
        self.devtools("Emulation.setDeviceMetricsOverride", **size)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[theme])

    def run(self, script: str, *arguments: Any) -> Any:
        """The value of a function body, or of what it promises, in the page."""
        return self._call("POST", "/execute/sync", {"script": script, "args": arguments})

    def wait(self, condition: str, timeout: float = 20.0) -> None:
        """Returns when a JavaScript expression is true; AssertionError if it does not become so."""
        end = time.monotonic() + timeout
        while not self.run(f"return Boolean({condition})"):
            assert time.monotonic() < end, f"still false after {timeout} s: {condition}; console: {self.console()}"
            time.sleep(0.05)

    def console(self) -> list[str]:
        """What the page reported since the last call: errors, warnings, refused loads."""
        entries = self._call("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def devtools(self, command: str, **parameters: Any) -> Any:
        """A Chrome DevTools command."""
        return self._call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def screenshot(self, file: Path) -> bytes:
        """A PNG of the whole page, written to `file`."""
        image = base64.b64decode(self.devtools("Page.captureScreenshot", captureBeyondViewport=True)["data"])
        file.write_bytes(image)
        return image

    def _call(self, verb: str, path: str, body: Any = None) -> Any:
        data = json.dumps(body).encode() if verb == "POST" else None
        request = urllib.request.Request(self.root + path, data, {"Content-Type": "application/json"}, method=verb)
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from None

    def _wait_for_driver(self) -> None:
        for _ in range(200):
            try:
                if self._call("GET", "/status")["ready"]:
                    return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.05)
        raise AssertionError("chromedriver did not start")

    def _stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=10)
