"""What the audit knows of pictures: whole or not, the same or nearly."""

from __future__ import annotations

import io
import multiprocessing
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imgcls.data.audit.audit import Audit
from imgcls.data.audit.depths import Depths
from imgcls.data.audit.duplicates import linked, near_pairs, same_content
from imgcls.data.audit.fix import fixed_rows
from imgcls.data.audit.picture import check, contrast_of, examine, signature_of
from imgcls.data.audit.scan import scan
from imgcls.data.pixels.decode import DecodeSettings, UnreadableImageError, decode
from imgcls.data.table import ImageStore, SampleTable
from imgcls.errors import WorkerError

SETTINGS = DecodeSettings()


def encoded(image, file_format="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def photo(crops, name="flower", index=0):
    return Image.fromarray(crops[name][index])


FORMATS = [
    ("JPEG", {"quality": 90}),
    ("JPEG", {"quality": 90, "progressive": True}),
    ("PNG", {}),
    ("WEBP", {"quality": 80}),
    ("BMP", {}),
    ("GIF", {}),
    ("TIFF", {}),
]


@pytest.mark.parametrize(("file_format", "options"), FORMATS)
def test_the_cheap_check_and_the_audit_agree_with_decoding_on_truncation(
    crops, file_format, options
):
    """Wherever a file is cut off, both say what training would say of it."""
    content = encoded(photo(crops), file_format, **options)
    for end in [*range(0, len(content), max(1, len(content) // 40)), len(content) - 1]:
        part = content[:end]
        try:
            decode(part)
            reason = ""
        except UnreadableImageError as error:
            reason = str(error)
        assert check(part, SETTINGS).reason == reason
        assert examine(part, SETTINGS).reason == reason
    for look in (check, examine):
        facts = look(content, SETTINGS)
        assert (facts.reason, facts.format, facts.width, facts.height) == ("", file_format, 48, 48)


def test_a_jpeg_with_bytes_behind_its_end_is_whole(crops):
    """Phones and cameras put zeros and more there."""
    content = encoded(photo(crops), "JPEG")
    assert check(content + b"\0" * 50, SETTINGS).reason == ""
    assert check(content + b"appended by a phone", SETTINGS).reason == ""


def test_a_png_with_a_wrong_checksum_is_what_decoding_says(crops):
    """The cheap check never condemns on its own."""
    content = bytearray(encoded(photo(crops)))
    content[len(content) // 2] ^= 0xFF
    with pytest.raises(UnreadableImageError) as caught:
        decode(bytes(content))
    assert check(bytes(content), SETTINGS).reason == str(caught.value)


def test_a_decompression_bomb_is_named_by_both(crops):
    """Also by the check, which decodes nothing otherwise."""
    small = DecodeSettings(max_pixels=100)
    content = encoded(photo(crops), "JPEG")
    for look in (check, examine):
        assert "--max-image-pixels" in look(content, small).reason


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "CMYK", "I;16", "LA"])
def test_every_mode_has_a_signature(crops, mode):
    """It is of the pixels that the model sees; the mode is told as stored."""
    grey = np.asarray(photo(crops).convert("L"))
    image = (
        Image.fromarray(grey.astype(np.uint16) * 257)
        if mode == "I;16"
        else photo(crops).convert(mode)
    )
    facts = examine(encoded(image, "TIFF" if mode == "CMYK" else "PNG"), SETTINGS)
    assert facts.mode == mode
    assert facts.signature.shape == (72,)
    assert contrast_of(facts.signature[None])[0] > 5


def test_turned_by_exif_or_by_hand_is_the_same_picture(crops):
    """A copy whose rotation was baked in is a near duplicate."""
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = photo(crops).transpose(Image.Transpose.ROTATE_90)
    one = examine(encoded(turned, exif=exif), SETTINGS).signature
    other = examine(encoded(photo(crops)), SETTINGS).signature
    assert np.allclose(one, other)


def test_constant_pictures_are_known_also_as_jpeg():
    """Of one colour, whatever the encoding; a line on it is something."""
    flat = Image.new("RGB", (200, 100), (90, 120, 30))
    assert examine(encoded(flat), SETTINGS).constant
    assert examine(encoded(flat, "JPEG", quality=30), SETTINGS).constant
    flat.paste((255, 0, 0), (10, 10, 190, 14))
    assert not examine(encoded(flat, "JPEG"), SETTINGS).constant


def test_a_signature_is_blind_to_encoding_and_size_not_to_colour(crops):
    """JPEG at quality 60 and half the size are near; other crops and swapped colours are not."""
    pictures = [Image.fromarray(p).resize((96, 96)) for p in crops["flower"][:20]]
    variants = [Image.open(io.BytesIO(encoded(p, "JPEG", quality=60))) for p in pictures]
    variants += [p.resize((48, 48), Image.Resampling.LANCZOS) for p in pictures]
    variants += [Image.fromarray(np.asarray(p)[:, :, ::-1].copy()) for p in pictures]
    signatures = np.stack([signature_of(image) for image in [*pictures, *variants]])
    pairs = {tuple(pair) for pair in near_pairs(np.arange(len(signatures)), signatures).tolist()}
    for index in range(20):
        assert {(index, index + 20), (index, index + 40)} <= pairs
    assert not {(one, other) for one, other in pairs if (other - one) % 20 or other >= 60}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60))
def test_near_pairs_are_those_of_comparing_everything(seed, count):
    """The tree gives what all pairs give, where no picture has more than 16 near ones."""
    rng = np.random.default_rng(seed)
    signatures = rng.normal(0, 30, (count, 72)).astype(np.float32)
    copies = rng.integers(0, count, count // 2)
    signatures[: len(copies)] = signatures[copies] + rng.normal(0, 0.4, (len(copies), 72))
    contrast = contrast_of(signatures)
    reach = np.minimum(1.3 + 0.1 * contrast, 0.8 * contrast)
    gaps = np.linalg.norm(signatures[:, None] - signatures[None], axis=2)
    near = gaps <= np.minimum(reach[:, None], reach[None])
    expected = np.argwhere(np.triu(near, 1))
    if near.sum(axis=1).max() <= 16:
        assert np.array_equal(near_pairs(np.arange(count), signatures), expected)


def test_no_or_one_picture_has_no_pair():
    """Nothing to compare."""
    for count in (0, 1):
        assert near_pairs(np.arange(count), np.zeros((count, 72), np.float32)).shape == (0, 2)


@given(st.lists(st.sampled_from([b"a", b"b", b"c", b""])))
def test_same_content_groups_all_and_only_equals(digests):
    """Groups of two and more; what has no digest is in none."""
    groups = same_content(digests)
    expected = {d: n for d, n in Counter(digests).items() if d and n > 1}
    assert {digests[group[0]]: len(group) for group in groups} == expected


@given(st.integers(1, 30), st.data())
def test_linked_rows_come_together_once(count, data):
    """As a walk over the links finds them."""
    rows = st.integers(0, count - 1)
    links = data.draw(st.lists(st.lists(rows, min_size=1, max_size=4), max_size=15))
    owner = list(range(count))
    for link in links:
        merged = {owner[row] for row in link}
        owner = [min(merged) if o in merged else o for o in owner]
    expected = {tuple(r for r in range(count) if owner[r] == o) for o in set(owner)}
    assert set(linked(count, links)) == {group for group in expected if len(group) > 1}


@st.composite
def audits(draw):
    """Any rows with any splits, groups and folds, copies, near pairs and damage among them."""
    count = draw(st.integers(1, 25))

    def column(values):
        return draw(st.lists(st.sampled_from(values), min_size=count, max_size=count))

    contents = column("abcdefghijklmnop")
    unreadable = {row: "bad" for row, bad in enumerate(column([False] * 4 + [True])) if bad}
    table = SampleTable(
        name="any",
        keys=tuple(f"{row:02d}" for row in range(count)),
        labels=np.array(column([0, 0, 0, 1])),
        class_names=("x", "y"),
        images=Contents([]),
        splits=tuple(column(["train", "val", "test"])) if draw(st.booleans()) else None,
        groups=tuple(column(["", "", "", "g", "h"])) if draw(st.booleans()) else None,
        folds=np.array(column([-1, 0, 1])) if draw(st.booleans()) else None,
    )
    readable = [b"" if row in unreadable else c.encode() for row, c in enumerate(contents)]
    near = draw(st.lists(st.tuples(*[st.integers(0, count - 1)] * 2), max_size=6))
    near = [(a, b) for a, b in near if a < b and not {a, b} & unreadable.keys()]
    return Audit(
        table=table,
        unreadable=unreadable,
        sizes=np.zeros((count, 2), np.int32),
        modes=Counter(),
        formats=Counter(),
        constant=(),
        same=tuple(map(tuple, same_content(readable))),
        near=np.array(near, dtype=np.int64).reshape(-1, 2),
        depths=Depths({}),
    )


@given(audits())
def test_a_fixed_set_has_no_harm_left_and_loses_nothing_else(audit):
    """What belongs together shares one group, split and fold; what went had a reason to."""
    table, fixed = audit.table, fixed_rows(audit)
    keep = set(fixed.keep.tolist())
    conflicting = {r for rows in audit.same if len({*table.labels[list(rows)]}) > 1 for r in rows}
    assert not keep & (audit.unreadable.keys() | conflicting)
    given_groups = [
        [row for row in range(len(table)) if table.groups[row] == name]
        for name in set(table.groups or ()) - {""}
    ]
    for rows in (*audit.same, *audit.near.tolist(), *given_groups):
        kept = [row for row in rows if row in keep]
        for values in (fixed.groups, table.splits, fixed.folds):
            assert values is None or len({values[row] for row in kept}) <= 1
    if fixed.groups is not None:
        assert "" not in fixed.groups
    dropped = len(audit.unreadable) + len(conflicting) + fixed.dropped.get("in_another_split", 0)
    assert len(keep) == len(table) - dropped
    if table.splits is None:
        assert "in_another_split" not in fixed.dropped


class Contents(ImageStore):
    """Pictures in memory; one may kill whoever reads it."""

    def __init__(self, contents, deadly=None):
        self._contents = contents
        self._deadly = deadly

    def content(self, index):
        if index == self._deadly:
            import os

            os._exit(9)
        return self._contents[index]

    def location(self, index):
        return f"pictures/{index}.png"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_read_what_one_process_reads(crops, monkeypatch, method):
    """In the table's order, however processes are started; the progress goes from none to all."""
    context = multiprocessing.get_context(method)
    monkeypatch.setattr(multiprocessing, "get_context", lambda _method: context)
    contents = [encoded(photo(crops, "flower", i % 40), quality=50 + i) for i in range(300)]
    contents[17] = b"broken"
    seen = []
    here = list(scan(Contents(contents), 300, check, workers=0))
    there = list(
        scan(Contents(contents), 300, check, workers=2, on_picture=lambda *at: seen.append(at))
    )
    assert here == there
    assert [row for row, facts in enumerate(there) if facts.reason] == [17]
    assert (seen[0], seen[-1]) == ((0, 300), (300, 300))


def test_a_process_that_dies_over_a_picture_names_it(crops):
    """One error, with the files that were in hand."""
    contents = [encoded(photo(crops))] * 300
    with pytest.raises(WorkerError, match=r"pictures/123\.png"):
        list(scan(Contents(contents, deadly=123), 300, check, workers=2))
