"""The cache of open handles against an oracle: a dict."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trio_acp import SessionRecord
from trio_acp._cache import CacheEntry, RuntimeCache
from trio_acp.abc import Handle

KEYS = st.sampled_from(["a", "b", "c"])


class CacheMachine(RuleBasedStateMachine):
    """An entry goes in once and comes out once; its handle has one owner."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = RuntimeCache()
        self.entries: dict[str, CacheEntry] = {}

    @rule(key=KEYS, suspect=st.booleans())
    def put(self, key: str, suspect: bool) -> None:
        entry = CacheEntry(handle=Handle(key=key), record=SessionRecord(key=key, agent="a"), suspect=suspect)
        if key in self.entries:
            with pytest.raises(ValueError, match="already has an open handle"):
                self.cache.put(key, entry)
        else:
            self.cache.put(key, entry)
            self.entries[key] = entry

    @rule(key=KEYS)
    def take_out(self, key: str) -> None:
        assert self.entries.pop(key, None) is self.cache.take_out(key)

    @rule()
    def take_all_out_while_walking(self) -> None:
        """The exit does so."""
        for key in self.cache:
            self.cache.take_out(key)
        self.entries.clear()

    @invariant()
    def same_as_the_dict(self) -> None:
        assert list(self.entries) == list(self.cache)
        assert len(self.entries) == len(self.cache)
        for key in ("a", "b", "c"):
            assert self.entries.get(key) is self.cache.get(key)
        suspects = sum(entry.suspect for entry in self.entries.values())
        assert suspects == self.cache.suspects()
        assert f"<RuntimeCache: {len(self.entries)} open, {suspects} suspect>" == repr(self.cache)


TestCache = CacheMachine.TestCase
