"""What a renderer is given, and what a renderer is.

A renderer turns a Report into named files in memory. It opens no file: `pages` writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from secost.answers.evidence import Weighed, trained_gains, weighed
from secost.answers.groups import Group, group_records
from secost.pages.verdict import Statement, state
from secost.runs.records import Gain, Record

Environment = Mapping[str, Any]
Environments = Mapping[str, Any] | Sequence[Environment]


@dataclass(frozen=True)
class Report:
    """Records with all that a page says about them. Texts are as given: each renderer cleans what it shows.

    `environments` maps an environment's id (as in `Record.environment`) to its facts. `created` is a date as text or
    None; nothing else in a rendered report depends on when it was made.
    """

    title: str
    records: tuple[Record, ...]
    spec: Mapping[str, Any] | None
    environments: Mapping[str, Environment]
    verdict: Statement
    created: str | None = None
    gains: tuple[Gain, ...] = ()
    # Figures are drawn once, however many formats show them.
    drawn: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def groups(self) -> list[Group]:
        return group_records(self.records)

    @property
    def weighed(self) -> list[Weighed]:
        """The variants of which a gain in accuracy is known, with their costs."""
        return weighed(self.groups, self.gains)

    @property
    def environment(self) -> dict[str, Any]:
        """The environment of a JSON document: the facts where there is one, all by id where there are several."""
        if len(self.environments) == 1:
            return dict(next(iter(self.environments.values())))
        return {name: dict(facts) for name, facts in self.environments.items()}


class Renderer(Protocol):
    """A format: gives the files of a report by name. Equal reports give equal bytes."""

    def __call__(self, report: Report, /) -> dict[str, bytes]: ...


def build_report(
    records: Sequence[Record], spec: Mapping[str, Any] | None = None, environments: Environments = (),
    title: str | None = None, created: str | None = None, gains: Sequence[Gain] | None = None,
) -> Report:
    """A report on the records, with its verdict.

    `environments` is one environment's facts, a list of such, or a mapping from ids to facts. `gains` are of one source
    (`secost.benefit`); None takes what was trained in the run itself.
    """
    bought = tuple(trained_gains(records) if gains is None else gains)
    return Report(
        title=title or _title(records), records=tuple(records), spec=spec, environments=_by_id(environments),
        verdict=state(records, bought), created=created, gains=bought,
    )


def _title(records: Sequence[Record]) -> str:
    models = list(dict.fromkeys(record.model for record in records))
    if not models:
        return "What attention costs"
    shown = models[0] if len(models) == 1 else f"{models[0]} and {len(models) - 1} more"
    return f"What attention costs on {shown}"


def _by_id(environments: Environments) -> dict[str, Environment]:
    if not isinstance(environments, Mapping):
        return {str(index): facts for index, facts in enumerate(environments, 1)}
    if environments and all(isinstance(value, Mapping) for value in environments.values()):
        return dict(environments)
    return {"1": environments} if environments else {}
