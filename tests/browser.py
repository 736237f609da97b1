"""Headless Chromium for the tests of HTML pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Browser:
    """Headless Chromium, driven through its own protocol."""

    driver: object

    def open(self, page: Path, *, width: int = 1280, scheme: str = "light") -> None:
        """Show a file, `width` CSS pixels wide, for a reader who prefers the colour scheme."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        from selenium.webdriver.support.ui import WebDriverWait

        self.driver.get_log("browser")  # what earlier pages said
        self.driver.get(page.as_uri())
        # on a busy machine the page before it may still be there
        arrived = "return document.readyState === 'complete' && location.href === arguments[0]"
        WebDriverWait(self.driver, 60).until(
            lambda driver: driver.execute_script(arrived, page.as_uri())
        )

    def run(self, script: str) -> object:
        """The value that a function body of JavaScript returns."""
        return self.driver.execute_script(script)

    def complaints(self) -> list[str]:
        """What the console has said about the page since it was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def column(self, table: int, column: int) -> list[str]:
        """The texts of one column of a table, from top to bottom."""
        return self.run(
            f"return [...document.querySelectorAll('table')[{table}].tBodies[0].rows]"
            f".map(row => row.cells[{column}].textContent)"
        )

    def click_title(self, table: int, column: int) -> None:
        """Click the title of a column, as a reader does."""
        tables = self.driver.find_elements("tag name", "table")
        titles = tables[table].find_elements("css selector", "th button")
        self.driver.execute_script("arguments[0].scrollIntoView()", titles[column])
        titles[column].click()


def running_browser() -> Iterator[Browser]:
    """Chromium from the system while the caller needs it; CI fails without, others skip."""
    programs = [shutil.which("chromium"), shutil.which("chromedriver")]
    if None in programs:
        assert "CI" not in os.environ, "CI has no chromium or chromedriver; see .ci/run"
        pytest.skip("needs chromium and chromedriver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location, driver_program = programs
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--lang=en"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(driver_program))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
