"""The public testing kit: test your application, or your adapter, without an agent."""

from __future__ import annotations

from .fake import FakeCall, FakeHandle, FakeRuntime, Hang, Raise, Run, Sleep, Swallow

__all__ = ["FakeCall", "FakeHandle", "FakeRuntime", "Hang", "Raise", "Run", "Sleep", "Swallow"]
