"""Pictures are read back by somebody else's scanner (zxing-cpp), as SVG and as PNG."""

from __future__ import annotations

import re

import pytest
import trio
import trio.testing
import zxingcpp

from tchatd.domains.payment.qr.generating import generate
from tchatd.domains.payment.qr.models import SCALE_MAX, QrImage
from tchatd.domains.payment.qr.parsing import parse
from tchatd.kernel.errors import Unavailable
from tchatd.providers import qr_image
from tchatd.providers.qr_image import QUIET_ZONE_MODULES, SegnoDrawing, drawn
from tests.support.qr import VECTORS, field, pixels_of_png, sealed

PAYLOAD = VECTORS[0]["payload"]
LONGEST = sealed(
    VECTORS[0]["payload"][:-8]
    + field("59", "ร้านค้า")
    + "".join(field(f"{80 + i}", "฿" * 80) for i in range(4))
)


def scanned(side: int, pixels: bytes) -> str:
    """What the scanner reads, exactly one code of error correction level M."""
    picture = memoryview(pixels).cast("B", (side, side))
    formats = zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode)
    [found] = zxingcpp.read_barcodes(picture, formats)
    assert found.ec_level == "M"
    return str(found.text)


def pixels_of_svg(svg: str) -> tuple[int, bytes]:
    """A pixel a module. segno draws a background, then horizontal strokes."""
    scaled = re.search(r'transform="scale\((\d+)\)"', svg)
    scale = int(scaled[1]) if scaled else 1
    size = re.search(r'<svg [^>]*width="(\d+)" height="(\d+)"', svg)
    assert size
    assert size[1] == size[2]
    side = int(size[1]) // scale
    pixels = bytearray(b"\xff" * side * side)
    background, strokes = re.findall(r'<path [^>]*d="([^"]*)"', svg)
    assert background == f"M0 0h{side}v{side}h-{side}z"
    x = y = 0.0
    for command, arguments in re.findall(r"([Mmh])([-\d. ]+)", strokes):
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", arguments)]
        if command == "M":
            x, y = numbers
        elif command == "m":
            x, y = x + numbers[0], y + numbers[1]
        else:
            at = int(y) * side + int(x)
            pixels[at : at + int(numbers[0])] = bytes(int(numbers[0]))
            x += numbers[0]
    return side, bytes(pixels)


def png_of(payload: str, scale: int) -> tuple[QrImage, int, bytes]:
    image = drawn(payload, "png", scale)
    assert isinstance(image.png, bytes)
    return image, *pixels_of_png(image.png)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["payload"][-4:])
def test_the_png_of_a_vector_is_read_back(vector: dict[str, str]) -> None:
    image, side, pixels = png_of(vector["payload"], 3)
    assert image.side_px == side
    assert scanned(side, pixels) == vector["payload"]


@pytest.mark.parametrize("scale", [1, 4])
@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["payload"][-4:])
def test_the_svg_of_a_vector_is_read_back(vector: dict[str, str], scale: int) -> None:
    image = drawn(vector["payload"], "svg", scale)
    assert isinstance(image.svg, str)
    side, pixels = pixels_of_svg(image.svg)
    assert image.side_px == side * scale
    big = b"".join(
        bytes(pixel for pixel in row for _ in range(3)) * 3
        for row in (pixels[y * side : (y + 1) * side] for y in range(side))
    )
    assert scanned(3 * side, big) == vector["payload"]


def test_four_light_modules_are_around_it() -> None:
    image, side, pixels = png_of(PAYLOAD, 2)
    quiet = 2 * QUIET_ZONE_MODULES
    rows = [pixels[y * side : (y + 1) * side] for y in range(side)]
    assert all(row == b"\xff" * side for row in rows[:quiet] + rows[-quiet:])
    assert all(set(row[:quiet] + row[-quiet:]) == {255} for row in rows)
    assert rows[quiet][quiet : quiet + 14] == bytes(14), "the corner's pattern"
    assert image.side_px == side


def test_the_longest_payload_fits_and_keeps_its_letters() -> None:
    assert len(LONGEST) <= 512
    assert parse(LONGEST).merchant_name == "ร้านค้า"
    _, side, pixels = png_of(LONGEST, 3)
    assert scanned(side, pixels) == LONGEST
    largest = drawn(LONGEST, "png", SCALE_MAX)
    assert isinstance(largest.png, bytes)
    assert len(largest.png) < 1 << 17
    vector = drawn(LONGEST, "svg", SCALE_MAX)
    assert isinstance(vector.svg, str)
    assert len(vector.svg) < 1 << 17


def test_what_we_make_is_what_is_scanned() -> None:
    payload = generate(parse(VECTORS[3]["payload"]))
    _, side, pixels = png_of(payload, 2)
    assert scanned(side, pixels) == payload


async def test_one_is_drawn_at_a_time_and_few_may_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go, begun = trio.Event(), 0

    def slow(payload: str, form: str, scale: int) -> QrImage:
        nonlocal begun
        begun += 1
        trio.from_thread.run(go.wait)
        return QrImage(format="svg", side_px=begun)

    monkeypatch.setattr(qr_image, "drawn", slow)
    drawing = SegnoDrawing(waiting_max=2)
    sides: list[int] = []

    async def draw() -> None:
        sides.append((await drawing.draw(PAYLOAD, "svg", 1)).side_px)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(draw)
            nursery.start_soon(draw)
            while begun == 0:
                await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(Unavailable):
                await draw()
            assert begun == 1
            go.set()
        await draw()
    assert sides == [1, 2, 3]
