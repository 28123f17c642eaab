"""A contact sheet of a dataset: pictures with their landmarks, boxes and what is hidden."""

from dataclasses import replace

from PIL import Image, ImageDraw

from advaug.datasets.pictures import CroppedPictures

__all__ = ["contact_sheet"]

TILE = 224  # pixels of a picture's side
CAPTION = 28
GAP = 6
AROUND = 1.3  # times the side of the crop, so that what lies outside shows
BACKGROUND, TEXT = "#202020", "#e0e0e0"
SEEN, HIDDEN, LEFT_OUT = "#40ff60", "#ff9020", "#ff3040"
BOX, CROP = "#ffffff", "#60a0ff"
LEGEND = (
    ("landmark", SEEN),
    ("occluded landmark", HIDDEN),
    ("not visible: not annotated, or outside the crop", LEFT_OUT),
    ("box", BOX),
    ("crop", CROP),
)


def contact_sheet(dataset: CroppedPictures, *, count: int = 24, columns: int = 6) -> Image.Image:
    """Draw some samples, evenly spread over a dataset.

    Args:
        dataset: Any of the readers.
        count: How many at most.
        columns: Side by side.

    Returns:
        One picture, RGB.

    Raises:
        DatasetError: If a picture cannot be read.
        ValueError: If `count` or `columns` is not positive.
    """
    for name, value in (("count", count), ("columns", columns)):
        if value < 1:
            message = f"`{name}` must be 1 or more, but got {value}. Pass a positive number."
            raise ValueError(message)
    count = min(count, len(dataset))
    columns = min(columns, count)
    rows = -(-count // columns)
    width, height = columns * (TILE + GAP) + GAP, rows * (TILE + CAPTION + GAP) + GAP
    sheet = Image.new("RGB", (width, height + CAPTION), BACKGROUND)
    _draw_legend(ImageDraw.Draw(sheet))
    for place in range(count):
        index = place * len(dataset) // count
        row, column = divmod(place, columns)
        at = (GAP + column * (TILE + GAP), CAPTION + GAP + row * (TILE + CAPTION + GAP))
        sheet.paste(_draw_sample(dataset, index), at)
    return sheet


def _draw_legend(draw: ImageDraw.ImageDraw) -> None:
    x = GAP
    for text, colour in LEGEND:
        draw.rectangle((x, 10, x + 8, 18), fill=colour)
        draw.text((x + 14, 8), text, fill=TEXT)
        x += 30 + int(draw.textlength(text))


def _draw_sample(dataset: CroppedPictures, index: int) -> Image.Image:
    """Draw a picture with a caption of two lines."""
    tile = Image.new("RGB", (TILE, TILE + CAPTION), BACKGROUND)
    annotated, crop = dataset.annotated(index), dataset.crop(index)
    margin = (AROUND - 1) / 2 * crop.side
    view = replace(
        crop,
        left=crop.left - margin,
        top=crop.top - margin,
        side=AROUND * crop.side,
        image_size=TILE,
    )
    tile.paste(Image.fromarray(view.resample(dataset.picture(index))), (0, 0))
    draw = ImageDraw.Draw(tile)
    edges = [(crop.left - 0.5, crop.top - 0.5)]
    edges.append((edges[0][0] + crop.side, edges[0][1] + crop.side))
    _outline(draw, view.to_crop(edges).ravel().tolist(), CROP)
    _outline(draw, view.to_crop([annotated.box[:2], annotated.box[2:]]).ravel().tolist(), BOX)
    visible = dataset.annotation(index)[1].tolist()
    occluded = [False] * len(visible) if annotated.occluded is None else annotated.occluded.tolist()
    points = view.to_crop(annotated.landmarks).tolist()
    for (x, y), seen, hidden in zip(points, visible, occluded, strict=True):
        colour = LEFT_OUT if not seen else HIDDEN if hidden else SEEN
        if y < TILE:  # the caption is below
            draw.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), fill=colour)
    counts = f"{sum(visible)} of {len(visible)} visible"
    counts += "" if annotated.occluded is None else f", {sum(occluded)} occluded"
    draw.text((2, TILE + 1), f"{index}: {_tail(draw, dataset.name(index))}", fill=TEXT)
    draw.text((2, TILE + 14), counts, fill=TEXT)
    return tile


def _outline(draw: ImageDraw.ImageDraw, corners: list[float], colour: str) -> None:
    draw.rectangle((corners[0], corners[1], corners[2], min(corners[3], TILE - 1)), outline=colour)


def _tail(draw: ImageDraw.ImageDraw, name: str) -> str:
    """The end of a name that fits into a tile."""
    while draw.textlength(f"99999: {name}") > TILE:
        name = name[1:]
    return name
