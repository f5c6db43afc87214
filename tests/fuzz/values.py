"""Values that break things: texts, numbers and JSON documents, and how large a value is."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

# NUL, byte order mark, right-to-left mark, a digit that is not ASCII, line ends of all kinds, what is beyond 16 bits.
_ODD = "\x00\x01\t\n\r\x1b\x7f\x85\u00a0\u0663\u200f\u2028\ufeff\ufffd\uffff\U0001f600aZ09-_./:*&!{}[]'\"`|#%@ "

texts = st.one_of(
    st.text(max_size=30),
    st.text(alphabet=_ODD, max_size=30),
    st.sampled_from(
        ["", "none", "null", "~", "true", "NaN", "-0", "1e999", "0x" + "f" * 5000, "9" * 5000, "x" * 70_000]
    ),
)

integers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, -1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), 10**30, 10**400]),
)

numbers = st.one_of(integers, st.floats())


def json_values(leaves: int = 20) -> st.SearchStrategy[Any]:
    """JSON values of about so many leaves, as Python has them; NaN and infinity among them."""
    return st.recursive(
        st.one_of(st.none(), st.booleans(), numbers, texts),
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
        max_leaves=leaves,
    )


def size(value: Any) -> int:
    """Three for every node of a value, and one for each character of its texts and names, as if nothing were shared."""
    total, pending = 0, [value]
    while pending:
        item = pending.pop()
        total += 3
        if isinstance(item, str):
            total += len(item)
        elif isinstance(item, dict):
            total += sum(len(key) for key in item)
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
    return total
