"""Sample sheets: photos in rows, edits in columns, with the targets of the edits if requested.

`python -m training.sheets DIRECTORY SHEET.png --work DIR`
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from training.edits import EDITS, apply
from training.evaluate import RECOMMENDED, Settings, edit_all, load_model, middles
from training.filters import Picture
from training.instructions import PROMPTS
from training.stages import stage_parser


def draw_sheet(
    directory: Path, work: Path, photos: list[str], edits: list[str], side: int, settings: Settings, targets: bool
) -> list[list[Picture]]:
    """Return lines of pictures, (side, side, 3): each photo with its edits, and below it the targets if requested."""
    pipeline = load_model(directory)
    squares = middles(work, side, "train") | middles(work, side)
    lines = []
    for name in photos:
        photo = squares[name]
        lines.append([photo, *edit_all(pipeline, photo, [PROMPTS[edit] for edit in edits], settings)])
        if targets:
            lines.append([photo, *(apply(edit, photo) for edit in edits)])
    return lines


def paste(lines: list[list[Picture]], labels: list[str], columns: int) -> Image.Image:
    """Return one RGB image of all pictures with their labels; each line is broken after `columns` pictures."""
    side = lines[0][0].shape[0]
    broken = -(-len(labels) // columns)
    sheet = Image.new("RGB", (side * min(columns, len(labels)), side * broken * len(lines)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        for index, (picture, label) in enumerate(zip(line, labels, strict=True)):
            at = side * (index % columns), side * (number * broken + index // columns)
            sheet.paste(Image.fromarray((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)), at)
            corner = at[0] + 4, at[1] + 2
            draw.text(corner, label.replace("_", " "), fill="white", stroke_width=2, stroke_fill="black")
    return sheet


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("sheet", type=Path)
    parser.add_argument("--photos", nargs="+", default=["chelsea", "leMusee", "grace-hopper"])
    parser.add_argument("--edits", nargs="+", default=list(EDITS))
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--steps", type=int, default=RECOMMENDED.steps)
    parser.add_argument("--targets", action="store_true")
    parser.add_argument("--columns", type=int, default=99, help="break lines after so many pictures")
    options = parser.parse_args()
    wanted = Settings(options.steps)
    drawn = draw_sheet(
        options.directory, options.work, options.photos, options.edits, options.side, wanted, options.targets
    )
    paste(drawn, ["photo", *options.edits], options.columns).save(options.sheet)
