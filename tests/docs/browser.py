"""A browser without a window: Chromium, spoken to over two pipes in its DevTools protocol.

https://chromedevtools.github.io/devtools-protocol/: JSON objects, each ended by a NUL; those with an id are answers, the others events.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from pathlib import Path
from typing import Any

PATIENCE = 60  # seconds until a browser that does not answer is given up
_KEYS = {" ": ("Space", 32), "Enter": ("Enter", 13), "ArrowLeft": ("", 37), "ArrowRight": ("", 39), "Home": ("", 36)}
_KEYS |= {"End": ("", 35), **{digit: (f"Digit{digit}", ord(digit)) for digit in "0123456789"}}


class Browser:
    """One page in it. A context manager, which ends the browser.

    `events` are those that came, each with its method and params: what was requested, what was written to the console.
    """

    def __init__(self, profile: Path) -> None:
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        options = (
            f"--headless --no-sandbox --disable-gpu --hide-scrollbars --remote-debugging-pipe --user-data-dir={profile}"
            " --disable-ipc-flooding-protection"  # tests step faster than hands, and each step is a place in the history
        )
        renumber = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'  # where Chromium looks for them
        self._process = subprocess.Popen(
            ["bash", "-c", renumber, "chromium", *options.split()],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._received, self._calls = b"", 0
        self._session: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        try:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
            self._session = {"sessionId": attached["sessionId"]}
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._out)
        os.close(self._in)
        self._process.terminate()
        self._process.wait(PATIENCE)

    def call(self, method: str, **params: Any) -> Any:
        """The result of a method of the protocol. Raises RuntimeError if the browser refuses."""
        self._calls += 1
        message = {"id": self._calls, "method": method, "params": params, **self._session}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._calls:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.events.append(answer)

    def open(self, page: Path, fragment: str = "") -> None:
        """Load a file, and wait until it is loaded."""
        self.events.clear()
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=page.as_uri() + fragment)
        while self.evaluate("document.readyState") != "complete" or self.evaluate("location.protocol") != "file:":
            time.sleep(0.01)

    def evaluate(self, script: str) -> Any:
        """The value of an expression in JavaScript. Raises RuntimeError if it throws."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(str(result["exceptionDetails"]))
        return result["result"].get("value")

    def key(self, name: str) -> None:
        """Press a key, and let it go."""
        code, number = _KEYS[name]
        key = {"key": name, "code": code or name, "windowsVirtualKeyCode": number}
        text = {"text": "\r" if name == "Enter" else name} if code else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **key)

    def click(self, selector: str) -> None:
        """Click on what stands in the middle of an element, which is to be on the screen: the element, or what hides it."""
        self.evaluate(
            f"""(({{x, y, width, height}}) => document.elementFromPoint(x + width / 2, y + height / 2).click())(
            document.querySelector({selector!r}).getBoundingClientRect())"""
        )

    def look(self, width: int, height: int, *, dark: bool = False) -> None:
        """The size of the screen, in CSS pixels, and what colours its owner likes, who likes no motion."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        likes = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in likes.items()]
        self.call("Emulation.setEmulatedMedia", features=features)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            if not select.select([self._in], [], [], PATIENCE)[0]:
                raise TimeoutError(f"Chromium has not answered for {PATIENCE} seconds")
            chunk = os.read(self._in, 1 << 16)
            if not chunk:
                raise EOFError("Chromium has ended")
            self._received += chunk
        message, _, self._received = self._received.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found
