"""Leave pictures that cannot be read out of what is scored."""

from __future__ import annotations

from dataclasses import replace

from imgcls.data.audit.findings import picture
from imgcls.data.audit.picture import check
from imgcls.data.audit.scan import scan
from imgcls.data.loading.bad_images import bad_image, nothing_left
from imgcls.jobs.evaluate.pictures import Pictures
from imgcls.storage.bad_images import BAD_IMAGES


def without_unreadable(pictures: Pictures, workers: int | str) -> Pictures:
    """The pictures that can be read; the others are in its `left_out`, and a note counts them.

    Raises BadImageError when none can.
    """
    table, rows = pictures.table, pictures.indices.tolist()
    facts = scan(table.select(pictures.indices).images, len(rows), check, workers=workers)
    reasons = [fact.reason for fact in facts]
    bad = [(row, why) for row, why in zip(rows, reasons, strict=True) if why]
    if not bad:
        return pictures
    if len(bad) == len(rows):
        raise nothing_left([bad_image(table, *bad[0])], f"the {pictures.split} pictures")
    note = (
        f"{len(bad):,} of {len(rows):,} {pictures.split} pictures cannot be read and are left out; "
        f"{BAD_IMAGES} lists them"
    )
    return replace(
        pictures,
        indices=pictures.indices[[not why for why in reasons]],
        notes=(*pictures.notes, note),
        left_out=tuple(picture(table, row, why) for row, why in bad),
    )
