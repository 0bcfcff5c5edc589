"""First paint and size of the web page: `python benchmarks/page.py --help`."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_VISIT = """
() => {
    const navigation = performance.getEntriesByType("navigation")[0];
    const paints = performance.getEntriesByType("paint").map((entry) => [entry.name, entry.startTime]);
    const responses = [navigation, ...performance.getEntriesByType("resource")];
    const transferred = responses.reduce((sum, entry) => sum + entry.transferSize, 0);
    return { ...Object.fromEntries(paints), ready: navigation.domContentLoadedEventEnd, transferred };
}
"""
# Awaited in one evaluation: the page's content security policy lets a script evaluate nothing later.
PAINTED = """
new Promise((resolve) => {
    new PerformanceObserver((list) => {
        if (list.getEntriesByName("first-contentful-paint").length) resolve(true);
    }).observe({ type: "paint", buffered: true });
})
"""


@dataclass(frozen=True, slots=True)
class Visit:
    """Milliseconds after the start of the navigation, and bytes of all responses with their heads."""

    first_paint: float
    first_text: float
    scripts_ran: float
    transferred: int


def visit(browser: "Browser", url: str) -> Visit:
    """Open the page with an empty cache and return the figures of the Performance API."""
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    try:
        page = context.new_page()
        page.goto(f"{url}/ui")
        page.evaluate(PAINTED)
        page.wait_for_load_state("networkidle")
        figures: dict[str, Any] = page.evaluate(_VISIT)
    finally:
        context.close()
    paint, text = figures["first-paint"], figures["first-contentful-paint"]
    return Visit(paint, text, figures["ready"], figures["transferred"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:11434", help="the server")
    parser.add_argument("--runs", type=int, default=10, help="visits, after one that is not counted")
    given = parser.parse_args(arguments)
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        print("Chromium is not installed", file=sys.stderr)
        return 1
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, chromium_sandbox=False)
        visits = [visit(browser, given.url) for _ in range(1 + given.runs)][1:]
        browser.close()
    print(f"first paint   {median(one.first_paint for one in visits):6.0f} ms")
    print(f"first text    {median(one.first_text for one in visits):6.0f} ms")
    print(f"scripts ran   {median(one.scripts_ran for one in visits):6.0f} ms")
    print(f"transferred   {median(one.transferred for one in visits) / 1000:6.1f} KB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
