"""What Redis does in one step, as Lua: other gateways read and write the same keys at the same time."""

import hashlib
from typing import Final

import msgspec

from gateway.stores.tally import Change


class Script(msgspec.Struct, frozen=True):
    """A script, and the name that Redis keeps it by."""

    text: str
    sha1: str


def _script(text: str) -> Script:
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


CHANGE_TALLY: Final = _script("""
local held = redis.call('GET', KEYS[1])
if not held then return false end
local keep, sums, count = tonumber(ARGV[2]), tonumber(ARGV[3]), #held / 8
local weights, format = count - sums, '<' .. string.rep('d', count)
if count % 1 ~= 0 or weights < 1 then redis.call('DEL', KEYS[1]) return false end
local values = {struct.unpack(format, held)}
for place = 1, weights do values[place] = values[place] * keep end
for place = 1, sums do values[weights + place] = values[weights + place] + tonumber(ARGV[3 + place]) end
for at = 4 + sums, #ARGV, 2 do
  local place = tonumber(ARGV[at]) + 1
  values[place] = values[place] + tonumber(ARGV[at + 1])
end
local changed = struct.pack(format, unpack(values, 1, count))
redis.call('SET', KEYS[1], changed, 'EX', ARGV[1])
return changed
""")
"""KEYS: the tally. ARGV: `tally_arguments`. 0.2 ms for 1,024 weights."""

SWAP: Final = _script("""
local before = redis.call('GET', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return before
""")
"""KEYS: the value's. ARGV: the new value, seconds to live. SET has had GET for this since Redis 6.2 only."""


def tally_arguments(change: Change, ttl_s: int) -> list[str | int]:
    """Return seconds to live, what old weights keep, how many sums, each sum's change, then each place and weight."""
    added = [part for place, weight in change.weights.items() for part in (place, repr(weight))]
    return [ttl_s, repr(change.keep), len(change.sums), *map(repr, change.sums), *added]
