"""The page at `/`: files of our own that load nothing from elsewhere, and what a browser may do with any answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

FILES = Path(__file__).with_name("browser")
POLICY = "; ".join(
    (
        "default-src 'self'",
        "media-src 'self' blob:",  # a chosen file is shown before it is sent
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""Of every answer: no text of a model or a file can become code, and no other site can show the page in a frame."""


def add(app: FastAPI) -> None:
    """Show the page at `/` and its files below `/page`."""

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(FILES / "index.html", media_type="text/html")

    app.mount("/page", StaticFiles(directory=FILES))
