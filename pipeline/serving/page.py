"""The page at `/`: files of our own that load nothing from elsewhere, and what a browser may do with any answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from pipeline.serving.landmarks import BrowserLandmarks

FILES = Path(__file__).with_name("browser")
POLICY: Mapping[str, str] = {
    "default-src": "'self'",
    "media-src": "'self' blob:",  # a chosen file is shown before it is sent
    "object-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
WASM = {"script-src": "'self' 'wasm-unsafe-eval'"}
"""Besides, where MediaPipe runs in the browser."""
HEADERS: Mapping[str, str] = {
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def headers(landmarks: BrowserLandmarks | None) -> dict[str, str]:
    """Of every answer: no text of a model or a file can become code, and no other site can show the page in a frame."""
    policy = {**POLICY, **(WASM if landmarks else {})}
    return {**HEADERS, "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items())}


def add(app: FastAPI, landmarks: BrowserLandmarks | None) -> None:
    """Show the page at `/`, its files below `/page`, and those of MediaPipe below `/landmarks`, where they are offered."""

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(FILES / "index.html", media_type="text/html")

    app.mount("/page", StaticFiles(directory=FILES))
    if landmarks:
        app.mount("/landmarks", StaticFiles(directory=landmarks.folder))
