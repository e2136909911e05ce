"""Pages in a real browser (Debian's chromium through Playwright), and axe-core's judgement of them.

Tests skip with the reason where there is no browser; with MULL_BROWSER=required, as in CI, they fail instead.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

AXE = "axe-core@4.14.1"
SERIOUS = ("serious", "critical")
FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex='0']"


def unavailable(reason: str) -> None:
    """Skip, or fail where a browser is required."""
    if os.environ.get("MULL_BROWSER") == "required":
        pytest.fail(f"a browser is required: {reason}")
    pytest.skip(reason)


@contextmanager
def chromium() -> Iterator:
    """A browser for as long as the context lasts."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        unavailable("no chromium here: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        unavailable("no playwright here: pip install playwright")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


def axe_source() -> str:
    """axe-core's script, fetched once from npm into the virtual environment."""
    folder = Path(sys.prefix) / "share" / AXE.replace("@", "-")
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    if not script.exists():
        if shutil.which("npm") is None:
            unavailable(f"no npm here to fetch {AXE}")
        partial = folder.with_name(f"{folder.name}.{os.getpid()}")
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(partial), AXE]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode:
            unavailable(f"npm cannot fetch {AXE}: {done.stderr[-300:]}")
        try:
            partial.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(partial)
    return script.read_text()


class Opened:
    """One page at one width in one theme, with what its console said."""

    def __init__(self, browser, address: str, width: int, theme: str):
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, reduced_motion="reduce"
        )
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.asked: list[str] = []
        """Every address that the page asked for."""
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.goto(address)

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def overflow(self) -> list[str]:
        """What makes the page wider than its window: elements that stick out and do not scroll by themselves."""
        return self.page.evaluate(
            """() => document.documentElement.scrollWidth <= innerWidth ? [] :
            [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1)
            .slice(0, 5).map(e => e.outerHTML.slice(0, 120))"""
        )

    def unreachable(self) -> list[str]:
        """Visible controls that the Tab key never reaches, as markup."""
        count = self.page.evaluate(
            """(focusable) => {
            const found = [...document.querySelectorAll(focusable)].filter(
                e => e.checkVisibility({visibilityProperty: true}) && !e.disabled && e.tabIndex >= 0);
            found.forEach((e, i) => { e.dataset.stop = i; });
            document.body.tabIndex = -1;
            document.body.focus();
            return found.length;
            }""",
            FOCUSABLE,
        )
        visited: set[str] = set()
        for _ in range(count + 1):
            self.page.keyboard.press("Tab")
            visited.add(self.page.evaluate("() => document.activeElement?.dataset.stop ?? ''"))
        return self.page.evaluate(
            """(visited) => [...document.querySelectorAll("[data-stop]")]
            .filter(e => !visited.includes(e.dataset.stop)).map(e => e.outerHTML.slice(0, 120))""",
            sorted(visited),
        )

    def violations(self, source: str) -> list[str]:
        """What axe-core finds serious or critical."""
        self.page.evaluate(source)
        found = self.page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{each['id']}: {node['html'][:120]}: {node['failureSummary'][:200]}"
            for each in found["violations"]
            if each["impact"] in SERIOUS
            for node in each["nodes"][:3]
        ]
