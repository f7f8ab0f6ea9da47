"""The relations that a model can tell apart."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from relpretrain.errors import suggest
from relpretrain.identity import fingerprint
from relpretrain.reading import read_json
from relpretrain.scene_graph.geometry import normalise, plain_side
from relpretrain.scene_graph.mirror import mirror_relation
from relpretrain.writing import write_text

BUNDLED = Path(__file__).parent / "vocabularies"

DEFAULT_VOCABULARY = "gqa"
"""What MRC has unless told otherwise: the 310 relations of the paper's graphs."""

# s R o means the same as o R' s. Left and right are found by mirroring the words.
_OPPOSITES = (
    ("above", "below"),
    ("over", "under"),
    ("in front of", "behind"),
    ("in the front of", "behind"),
    ("inside", "contain"),
    ("taller than", "shorter than"),
    ("larger than", "smaller than"),
    ("following", "followed by"),
    ("pulling", "pulled by"),
    ("pushing", "pushed by"),
    ("covering", "covered by"),
    ("surrounding", "surrounded by"),
    ("decorating", "decorated by"),
    *((name, name) for name in ("next to", "near", "beside", "close to", "adjacent to", "touching", "connected to")),
)


class RelationVocabulary:
    """Names of relations, each with a number: the classes of MRC.

    Case and white space of a name do not matter.

    Args:
        names: The relations, in the order of their numbers.
        aliases: Other spellings, each with the name that it stands for.
        inverses: Pairs for which "s name o" means "o inverse s"; given once or in both directions.
        source: Where the names come from.
        counts: How often each relation occurs in the data, in any spelling; those of other relations are left out.

    Raises:
        ValueError: If a name is empty or comes twice, or an alias or inverse names a relation that is not there.
    """

    def __init__(
        self,
        names: Sequence[str],
        aliases: Mapping[str, str] | None = None,
        inverses: Mapping[str, str] | None = None,
        source: str = "",
        counts: Mapping[str, int] | None = None,
    ) -> None:
        self.names: tuple[str, ...] = tuple(normalise(name) for name in names)
        self.source = source
        self._index = {name: i for i, name in enumerate(self.names)}
        if not self.names or "" in self._index:
            raise ValueError(f"a relation vocabulary needs names, none of them empty; got {list(names)!r}")
        if len(self._index) < len(self.names):
            twice = [name for name, count in Counter(self.names).items() if count > 1]
            raise ValueError(f"relations {twice} come more than once in a vocabulary; keep each once")

        self.aliases = {normalise(alias): self._known(name) for alias, name in (aliases or {}).items()}
        if clash := sorted(self.aliases.keys() & self._index.keys()):
            raise ValueError(
                f"{clash} are both names and aliases of a relation vocabulary; keep them as one of the two"
            )

        self.inverses: dict[str, str] = {}
        for name, inverse in (inverses or {}).items():
            for a, b in ((self._known(name), self._known(inverse)), (self._known(inverse), self._known(name))):
                if self.inverses.setdefault(a, b) != b:
                    raise ValueError(f"relation {a!r} has two inverses, {self.inverses[a]!r} and {b!r}; keep one")

        self.counts: dict[str, int] = {}
        for name, count in (counts or {}).items():
            if (index := self.index(name)) is not None:
                self.counts[self.names[index]] = self.counts.get(self.names[index], 0) + count

    @classmethod
    def from_counts(cls, counts: Mapping[str, int], size: int | None = None, source: str = "") -> RelationVocabulary:
        """Take the most frequent relations; equal counts go by the alphabet.

        Args:
            counts: How often each relation occurs, in any spelling.
            size: How many to take; all where None.
            source: Where the counts come from.
        """
        merged: Counter[str] = Counter()
        for name, count in counts.items():
            merged[normalise(name)] += count
        if size is not None and size < 1:
            raise ValueError(f"size of a relation vocabulary must be at least 1, got {size}")
        names = sorted(merged, key=lambda name: (-merged[name], name))[:size]
        return cls(names, inverses=evident_inverses(names), source=source, counts=merged)

    def counted(self, counts: Mapping[str, int]) -> RelationVocabulary:
        """Return the same vocabulary with other counts."""
        return RelationVocabulary(self.names, self.aliases, self.inverses, self.source, counts)

    @classmethod
    def load(cls, path_or_name: str | Path) -> RelationVocabulary:
        """Read a vocabulary that `save` wrote, or a bundled one by its name ("gqa").

        Raises:
            ValueError: If there is no such vocabulary, or the file is not one.
        """
        path = Path(path_or_name)
        if not path.is_file():
            bundled = {p.stem: p for p in sorted(BUNDLED.glob("*.json"))}
            if str(path_or_name) not in bundled:
                name = str(path_or_name)
                raise ValueError(f"no relation vocabulary {name!r}, bundled or as a JSON file{suggest(name, bundled)}")
            path = bundled[str(path_or_name)]
        try:
            return cls.from_json(read_json(path, "a relation vocabulary"))
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is not a relation vocabulary: expected JSON with a list of strings under 'names'"
            ) from error

    def save(self, path: str | Path) -> None:
        """Write the vocabulary as JSON."""
        write_text(Path(path), json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> RelationVocabulary:
        """Build a vocabulary from what `to_json` returned."""
        names = state["names"]
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise TypeError(f"names of a relation vocabulary must be a list of strings, got {names!r}")
        return cls(names, state.get("aliases"), state.get("inverses"), state.get("source", ""), state.get("counts"))

    def to_json(self) -> dict[str, Any]:
        """Return the vocabulary as plain types: what a file or a checkpoint keeps."""
        return {
            "source": self.source,
            "names": list(self.names),
            "aliases": dict(self.aliases),
            "inverses": dict(self.inverses),
            **({"counts": dict(self.counts)} if self.counts else {}),
        }

    @property
    def fingerprint(self) -> str:
        """16 hex digits over names and aliases: equal where two vocabularies number every relation alike."""
        content = json.dumps([self.names, sorted(self.aliases.items())], ensure_ascii=True)
        return fingerprint(content)

    def index(self, name: str) -> int | None:
        """Return the number of a relation, or None if the vocabulary lacks it."""
        name = normalise(name)
        return self._index.get(self.aliases.get(name, name))

    def inverse(self, name: str) -> str | None:
        """Return the relation R' for which "s name o" means "o R' s", or None if none is known."""
        name = normalise(name)
        return self.inverses.get(self.aliases.get(name, name))

    def _known(self, name: str) -> str:
        if normalise(name) not in self._index:
            hint = suggest(normalise(name), self.names, list_all=False)
            raise ValueError(f"relation {name!r} is not in the vocabulary of {len(self)} names{hint}")
        return normalise(name)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.index(name) is not None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RelationVocabulary) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return f"RelationVocabulary({len(self)} names, fingerprint={self.fingerprint!r})"


def evident_inverses(names: Sequence[str]) -> dict[str, str]:
    """Find the pairs among `names` that are plainly inverse: left and right, above and below, near and near.

    Left and right alone, without a verb or a part of the other thing (`geometry.plain_side`).
    """
    known, found = set(names), dict[str, str]()
    for name, inverse in _OPPOSITES:
        if {name, inverse} <= known and not {name, inverse} & found.keys():
            found |= {name: inverse, inverse: name}
    for name in names:
        if (mirrored := _mirrored(name)) in known:
            found[name] = mirrored
    return found


@cache
def evident_inverse(name: str) -> str | None:
    """The plain inverse of a relation, whatever others there are: "right of" for "left of"; None if none is known."""
    for pair in _OPPOSITES:
        if name in pair:
            return pair[1 - pair.index(name)]
    return _mirrored(name) or None


def _mirrored(name: str) -> str:
    """The other side, of a relation that tells of a side alone; empty for all others."""
    return mirror_relation(name) if plain_side(name) else ""
