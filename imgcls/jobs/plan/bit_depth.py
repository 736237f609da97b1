"""One scale for pictures of more than eight bits: measured once, kept with the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from imgcls.config.reading import ReadingConfig
from imgcls.config.run import TrainConfig
from imgcls.data.audit.depths import Depths, measure_depths
from imgcls.data.table import SampleTable
from imgcls.errors import DataError
from imgcls.jobs.plan.preflight import rows_to_check

_PLAIN = 8


def of_one_depth(
    config: TrainConfig, table: SampleTable, on_picture: Callable[[int, int], None]
) -> tuple[SampleTable, str | None]:
    """(the table, decoded by the depth that `--bit-depth` says or its pictures have, why).

    Of very many pictures those that the pre-flight reads are looked at. Raises DataError where no
    one scale suits all pictures.
    """
    if table.defaults.in_memory or "bit_depth" in config.reading.given:
        return table, None
    rows = rows_to_check(table, config.runtime.seed)
    seen = table if len(rows) == len(table) else table.select(rows)
    depths = measure_depths(seen, workers=config.runtime.workers, on_picture=on_picture)
    if depths.unit_floats:
        first, most = depths.unit_floats[0], max(d.high for d in depths.undeclared.values())
        raise DataError(
            f"{seen.images.location(first)}: holds numbers from 0 to 1 while other pictures go up "
            f"to {most:,.10g}, so they have no scale in common; save all in one of the two ways"
        )
    drawn = "" if seen is table else f", of {len(seen):,} pictures drawn at random"
    reason = None if depths.bits is None else f"bit depth: {depths.words()}{drawn}"
    return with_depth(table, config.reading, depths), reason


def with_depth(table: SampleTable, reading: ReadingConfig, depths: Depths) -> SampleTable:
    """The table, decoded by the depth of its pictures where `--bit-depth` says none."""
    if "bit_depth" in reading.given:
        return table
    # a model of pictures with 8 bits knows no scale for more: they are refused, not guessed
    bits = depths.bits or _PLAIN
    table.images.decoding = replace(table.images.decoding, bit_depth=bits)
    return replace(table, origin={**table.origin, "bit_depth": bits})
