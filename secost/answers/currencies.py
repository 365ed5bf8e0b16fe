"""What a variant is paid in: parameters, MACs, memory traffic, kernels, time. Plain data, no pandas."""

from __future__ import annotations

from dataclasses import dataclass

from secost.numbers import milliseconds, percent, percent_interval, quantity
from secost.runs.records import Record, overhead


@dataclass(frozen=True)
class Currency:
    """One way to pay. `field` and `overhead_field` are fields of a Record; `word` stands in sentences."""

    name: str
    field: str
    overhead_field: str
    title: str
    word: str
    unit: str = ""

    @property
    def measured(self) -> bool:
        """Whether the value comes from a clock and so has an interval."""
        return self.name == "latency"

    def total(self, record: Record) -> float | None:
        """The value of the whole network, in the field's own unit."""
        value: float | None = getattr(record, self.field)
        return value

    def added(self, record: Record, baseline: Record | None) -> float | None:
        """The value minus the baseline's; None where either is missing, or where they are times of two machines.

        A time's is its overhead of the baseline's time: the difference of two medians would contradict the percents.
        """
        value, reference = self.total(record), None if baseline is None else self.total(baseline)
        if value is None or reference is None or baseline is None:
            return None
        if not self.measured:
            return value - reference
        if record.environment != baseline.environment or record.latency_overhead is None:
            return None
        return record.latency_overhead * reference

    def overhead(self, record: Record, baseline: Record | None) -> float | None:
        """The overhead as a fraction. Time's is the paired estimate of the record or nothing: a ratio of two
        medians is not the same thing. A count's that the record lacks is had from the baseline's."""
        found: float | None = getattr(record, self.overhead_field)
        if found is not None or self.measured or baseline is None:
            return found
        return overhead(self.total(record), self.total(baseline))

    def interval(self, record: Record) -> tuple[float, float] | None:
        """The 95 % confidence interval of the overhead (fractions); None for a count."""
        if not self.measured or record.latency_overhead_low is None or record.latency_overhead_high is None:
            return None
        return record.latency_overhead_low, record.latency_overhead_high

    def show_total(self, record: Record) -> str:
        """`25.56 M`, `31.2 ms`, `N/A`."""
        value = self.total(record)
        return milliseconds(value) if self.measured else quantity(value, self.unit)

    def show_added(self, record: Record, baseline: Record | None) -> str:
        """`+2.531 M`, `+2.5 ms`, `N/A`."""
        value = self.added(record, baseline)
        return milliseconds(value, signed=True) if self.measured else quantity(value, self.unit, signed=True)

    def show_overhead(self, record: Record, baseline: Record | None) -> str:
        """`+9.9 %`, and for time `+8.1 % [7.2, 9.0]`."""
        value = self.overhead(record, baseline)
        if not self.measured:
            return percent(value)
        return percent_interval(value, record.latency_overhead_low, record.latency_overhead_high)


PARAMS = Currency("params", "params", "params_overhead", "Parameters", "parameters")
MACS = Currency("macs", "macs", "macs_overhead", "MACs", "MACs")
MEMORY = Currency("memory", "memory_bytes", "memory_overhead", "Memory traffic", "memory traffic", "B")
KERNELS = Currency("kernels", "kernels", "kernels_overhead", "Kernels", "kernels")
LATENCY = Currency("latency", "latency_ms", "latency_overhead", "Time", "time", "ms")
CURRENCIES = (PARAMS, MACS, MEMORY, KERNELS, LATENCY)
COUNTED = CURRENCIES[:4]
