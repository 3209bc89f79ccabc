"""Sample sheets to look at: photos in rows, edits in columns, with the classical targets beside if wanted.

`python -m training.sheets DIRECTORY SHEET.png --work DIR`
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from training.edits import EDITS, apply
from training.evaluate import RECOMMENDED, Settings, edit_all, held_out, load_model
from training.instructions import PROMPTS
from training.stages import stage_parser


def draw_sheet(
    directory: Path, work: Path, photos: list[str], edits: list[str], side: int, settings: Settings, targets: bool
) -> Image.Image:
    """Each photo and its edits in a row, below it the targets; labels on top."""
    pipeline, squares = load_model(directory), held_out(work, side)
    rows = []
    for name in photos:
        photo = squares[name]
        rows.append([photo, *edit_all(pipeline, photo, [PROMPTS[edit] for edit in edits], settings, batch=8)])
        if targets:
            rows.append([photo, *(apply(edit, photo) for edit in edits)])
    pixels = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    sheet = Image.new("RGB", (pixels.shape[1], pixels.shape[0] + 16), "white")
    sheet.paste(Image.fromarray((np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)), (0, 16))
    for column, label in enumerate(["photo", *edits]):
        ImageDraw.Draw(sheet).text((column * side + 3, 2), label, fill="black")
    return sheet


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("sheet", type=Path)
    parser.add_argument("--photos", nargs="+", default=["chelsea", "leMusee", "grace-hopper"])
    parser.add_argument("--edits", nargs="+", default=list(EDITS))
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--guidance", type=float, default=RECOMMENDED.guidance)
    parser.add_argument("--steps", type=int, default=RECOMMENDED.steps)
    parser.add_argument("--targets", action="store_true")
    options = parser.parse_args()
    wanted = Settings(options.steps, options.guidance)
    drawn = draw_sheet(
        options.directory, options.work, options.photos, options.edits, options.side, wanted, options.targets
    )
    drawn.save(options.sheet)
