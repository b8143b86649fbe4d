"""The cache of open handles against an oracle: a dict."""

from __future__ import annotations

import math

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trio_acp import SessionRecord
from trio_acp._cache import SUSPECT_TTL, CacheEntry, RuntimeCache
from trio_acp.abc import Handle

KEYS = st.sampled_from(["a", "b", "c"])


class CacheMachine(RuleBasedStateMachine):
    """An entry goes in once and comes out once; its handle has one owner."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = RuntimeCache()
        self.entries: dict[str, CacheEntry] = {}
        self.used: dict[str, float] = {}
        self.now = 0.0

    @rule(key=KEYS, suspect=st.booleans())
    def put(self, key: str, suspect: bool) -> None:
        entry = CacheEntry(handle=Handle(key=key), record=SessionRecord(key=key, agent="a"), suspect=suspect)
        if key in self.entries:
            with pytest.raises(ValueError, match="already has an open handle"):
                self.cache.put(key, entry)
        else:
            self.cache.put(key, entry)
            self.entries[key] = entry
            self.used[key] = 0.0

    @rule(key=KEYS)
    def take_out(self, key: str) -> None:
        assert self.entries.pop(key, None) is self.cache.take_out(key)

    @rule()
    def take_all_out_while_walking(self) -> None:
        """The exit does so."""
        for key in self.cache:
            self.cache.take_out(key)
        self.entries.clear()

    @rule(key=KEYS, seconds=st.sampled_from([0.0, 0.1, 1.0, 30.0, 60.0, 1000.0]))
    def touch(self, key: str, seconds: float) -> None:
        """Time passes, and a lane is released."""
        self.now += seconds
        assert self.entries.get(key) is self.cache.touch(key, self.now)
        self.used[key] = self.now

    @rule(busy=st.sets(KEYS), ttl=st.sampled_from([0.1, 1.0, 60.0, 600.0, math.inf]))
    def look_for_idle_ones(self, busy: set[str], ttl: float) -> None:
        """The longest idle first, none that is busy; a suspect expires no later than the others."""
        found = self.cache.idle(lambda key: key not in busy)
        assert set(self.entries) - busy == {key for key, _ in found}
        assert sorted(self.used[key] for key, _ in found) == [self.used[key] for key, _ in found]
        for key, entry in found:
            assert self.entries[key] is entry
            assert self.now - self.used[key] == entry.idle_for(self.now)
            assert 0 == entry.idle_for(self.used[key] - 1)
            age = min(ttl, SUSPECT_TTL) if entry.suspect else ttl
            assert self.used[key] + age == entry.expires(ttl)

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


def test_a_touch_makes_an_entry_young_again() -> None:
    """Used at 1000, for at most 1000 seconds: not expired at 1999, expired at 2000; used at 2500: at 3500."""
    cache = RuntimeCache()
    cache.put("k", entry := CacheEntry(handle=Handle(key="k"), record=SessionRecord(key="k", agent="a")))
    cache.touch("k", 1000.0)
    assert 2000.0 == entry.expires(1000.0)
    assert 999.0 == entry.idle_for(1999.0)
    cache.touch("k", 2500.0)
    assert 3500.0 == entry.expires(1000.0)
    assert 700.0 == entry.idle_for(3200.0)


def entry_of(key: str) -> CacheEntry:
    return CacheEntry(handle=Handle(key=key), record=SessionRecord(key=key, agent="a"))


def test_an_open_handle_is_not_replaced() -> None:
    """A second entry is refused, and the first one stays; taken out, it comes out once, the same object."""
    cache = RuntimeCache()
    cache.put("k", first := entry_of("k"))
    with pytest.raises(ValueError, match="already has an open handle"):
        cache.put("k", entry_of("k"))
    assert first is cache.get("k")
    assert (first, None) == (cache.take_out("k"), cache.take_out("k"))


def test_only_what_is_idle_is_offered_longest_first() -> None:
    """Whether a lane is busy, whoever asks knows; the order is that of the last use, not of opening."""
    cache = RuntimeCache()
    for key in ("first", "second", "busy"):
        cache.put(key, entry_of(key))
    cache.touch("first", 2.0)
    cache.touch("second", 1.0)
    assert ["second", "first"] == [key for key, _ in cache.idle(lambda key: key != "busy")]
