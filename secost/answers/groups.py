"""Records back into comparisons: one network at one setting, its baseline, and the variants beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from secost.answers.currencies import CURRENCIES, Currency
from secost.plan.spec import BASELINE, NATIVE, Setting
from secost.runs.records import DONE, FAILED, Record

SETTING_FIELDS = (
    "model", "placement", "integration", "stages", "batch", "resolution", "backend", "precision", "device", "threads",
    "memory_format",
)
STANDARD_REDUCTION = 16


@dataclass(frozen=True)
class Group:
    """One comparison: `label` names it among the others by what differs, the records keep their order."""

    label: str
    records: tuple[Record, ...]

    @property
    def baseline(self) -> Record | None:
        """The first finished record without attention."""
        return next((record for record in self.records if record.attention == BASELINE and _done(record)), None)

    @property
    def native(self) -> Record | None:
        """The finished record of the network as shipped."""
        return next((record for record in self.records if record.attention == NATIVE and _done(record)), None)

    @property
    def variants(self) -> tuple[Record, ...]:
        """Finished records with an attention put in by secost."""
        return tuple(record for record in self.records if record.attention not in (BASELINE, NATIVE) and _done(record))

    @property
    def compared(self) -> tuple[Record, ...]:
        """Every finished record but the baseline: native, then the variants."""
        return tuple(record for record in self.records if record.attention != BASELINE and _done(record))

    @property
    def failed(self) -> tuple[Record, ...]:
        return tuple(record for record in self.records if record.status == FAILED)

    @property
    def attentions(self) -> list[str]:
        """The attentions of `variants`, each once, in order."""
        return list(dict.fromkeys(record.attention for record in self.variants))

    def of(self, attention: str) -> list[Record]:
        """The variants with one attention, by r, in the spelling that stands for it: secost's own where it was tried,
        else the first that was."""
        found = [record for record in self.variants if record.attention == attention]
        ways = list(dict.fromkeys(record.spelling for record in found))
        chosen = None if None in ways else ways[0]
        return sorted((item for item in found if item.spelling == chosen), key=lambda record: record.reduction or 0)

    @property
    def plain_variants(self) -> list[Record]:
        """The variants in one spelling each: what is compared as kinds of attention, not as ways to write one."""
        chosen = {id(record) for attention in self.attentions for record in self.of(attention)}
        return [record for record in self.variants if id(record) in chosen]

    def spelled(self) -> list[list[Record]]:
        """The variants that differ in spelling alone, a list for each attention and r with more than one."""
        found: dict[tuple[str, int | None], list[Record]] = {}
        for record in self.variants:
            found.setdefault((record.attention, record.reduction), []).append(record)
        return [members for members in found.values() if len(members) > 1]

    def representative(self, attention: str) -> Record:
        """The one that stands for its attention: r=16 where it was tried (the papers' choice), else the middle r."""
        found = self.of(attention)
        standard = [record for record in found if record.reduction == STANDARD_REDUCTION]
        return standard[0] if standard else found[len(found) // 2]

    def representatives(self) -> list[Record]:
        return [self.representative(attention) for attention in self.attentions]

    def overhead(self, record: Record, currency: Currency) -> float | None:
        return currency.overhead(record, self.baseline)

    def has(self, currency: Currency) -> bool:
        """Whether any compared record has an overhead in this currency."""
        return any(self.overhead(record, currency) is not None for record in self.compared)

    def currencies(self) -> list[Currency]:
        """The currencies in which anything here was counted or measured."""
        return [currency for currency in CURRENCIES if self.has(currency)]


def group_records(records: Iterable[Record]) -> list[Group]:
    """The comparisons among the records, in order of appearance; trainings and estimates, which cost nothing, are in
    none."""
    found: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        if not record.is_cost:
            continue
        found.setdefault(setting_key(record), []).append(record)
    varying = _varying_fields(list(found))
    return [Group(_label(members[0], varying), tuple(members)) for members in found.values()]


def setting_key(record: Record) -> tuple[Any, ...]:
    """What two records must share to be compared."""
    values = (getattr(record, name) for name in SETTING_FIELDS)
    return tuple(tuple(value) if isinstance(value, list) else value for value in values)


def setting_words(record: Record, names: Sequence[str] | None = None) -> str:
    """The named parts of a record's setting in words: `resnet50, 224 px, batch 1`. Of all of them, the usual memory
    format is not worth a word."""
    if names is None:
        usual = record.memory_format == Setting.memory_format
        names = [name for name in SETTING_FIELDS if not (usual and name == "memory_format")]
    return ", ".join(_word(record, name) for name in names)


def _done(record: Record) -> bool:
    return record.status == DONE


def _varying_fields(keys: list[tuple[Any, ...]]) -> list[str]:
    return [name for index, name in enumerate(SETTING_FIELDS) if len({key[index] for key in keys}) > 1]


def _label(record: Record, varying: list[str]) -> str:
    return setting_words(record, ["model", *(name for name in varying if name != "model")])


def _word(record: Record, name: str) -> str:
    value = getattr(record, name)
    if name == "stages":
        return "all stages" if value is None else f"stages {','.join(map(str, value))}"
    if name == "resolution":
        return "own input" if value is None else f"{value} px"
    if name == "threads":
        return "1 thread" if value == 1 else f"{value} threads"
    prefix = {"batch": "batch ", "placement": "placement ", "integration": "integration "}.get(name, "")
    return f"{prefix}{value}"
