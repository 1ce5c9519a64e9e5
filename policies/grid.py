"""Sets of classes as the bits of one number: union, intersection and difference of millions of requests at once.

A grid has columns; each column is cut into classes of values that no rule tells apart. A bit stands for one class of
every column, the last column's class changing fastest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

Values = Sequence[object]
Box = dict[str, tuple[Values, ...]]


class Grid:
    """All combinations of the columns' classes. `size`: how many; `full`: the set of all of them."""

    def __init__(self, columns: Mapping[str, Sequence[Values]]) -> None:
        self.columns = {name: tuple(classes) for name, classes in columns.items()}
        self._names = tuple(self.columns)
        self._strides: list[int] = []
        size = 1
        for name in reversed(self._names):
            self._strides.insert(0, size)
            size *= len(self.columns[name])
        self.size = size
        self.full = (1 << size) - 1
        self._repeats = [
            self.full // ((1 << s * len(held)) - 1)
            for s, held in zip(self._strides, self.columns.values(), strict=True)
        ]
        self._counted: dict[tuple[int, int], int] = {}

    def where(self, name: str, holds: Callable[[object], bool]) -> int:
        """The set in which `holds` of the first value of the column's class: classes are never split."""
        at = self._names.index(name)
        stride, classes = self._strides[at], self.columns[name]
        block = 0
        for i, values in enumerate(classes):
            if holds(values[0]):
                block |= ((1 << stride) - 1) << (i * stride)
        # the same block once in every period of this column
        return block * self._repeats[at]

    def count(self, bits: int) -> int:
        """How many concrete combinations of values the set stands for."""
        return self._count(bits, 0)

    def first(self, bits: int) -> dict[str, object]:
        """One value for each column: the first of the lowest class in the set, which must not be empty."""
        at = (bits & -bits).bit_length() - 1
        out: dict[str, object] = {}
        for name, stride in zip(self._names, self._strides, strict=True):
            out[name] = self.columns[name][at // stride][0]
            at %= stride
        return out

    def boxes(self, bits: int) -> Iterator[Box]:
        """Disjoint products of classes that together are the set; columns of which all classes are in it left out."""
        yield from self._boxes(bits, 0)

    def inside(self, box: Box) -> int:
        """The set that the box is."""
        bits = self.full
        for name, held in box.items():
            firsts = {values[0] for values in held}
            bits &= self.where(name, firsts.__contains__)
        return bits

    def _slices(self, bits: int, level: int) -> Iterator[tuple[int, int]]:
        stride = self._strides[level]
        mask = (1 << stride) - 1
        for i in range(len(self.columns[self._names[level]])):
            yield i, bits >> (i * stride) & mask

    def _count(self, bits: int, level: int) -> int:
        if not bits:
            return 0
        if level == len(self._names):
            return 1
        key = (level, bits)
        known = self._counted.get(key)
        if known is None:
            classes = self.columns[self._names[level]]
            known = sum(len(classes[i]) * self._count(rest, level + 1) for i, rest in self._slices(bits, level) if rest)
            self._counted[key] = known
        return known

    def _boxes(self, bits: int, level: int) -> Iterator[Box]:
        if not bits:
            return
        if level == len(self._names):
            yield {}
            return
        name = self._names[level]
        same: dict[int, list[int]] = {}
        for i, rest in self._slices(bits, level):
            if rest:
                same.setdefault(rest, []).append(i)
        classes = self.columns[name]
        for rest, chosen in same.items():
            for box in self._boxes(rest, level + 1):
                whole = len(chosen) == len(classes)
                yield box if whole else {name: tuple(classes[i] for i in chosen), **box}


def classes(values: Sequence[object], key: Callable[[object], object]) -> tuple[Values, ...]:
    """`values` cut into classes of equal `key`, in order of their first value."""
    out: dict[object, list[object]] = {}
    for value in values:
        out.setdefault(key(value), []).append(value)
    return tuple(tuple(c) for c in out.values())
