"""Inpainting: which part of the upload may change, which part of it the model draws, and how they are put together."""

from pydantic import BaseModel, ConfigDict

Box = tuple[int, int, int, int]
"""Left, upper, right and lower edge in pixels; right and lower are exclusive."""

_FEATHER_SHARE = 0.004
"""Enough to hide the step at an edge; a wider rise shows a halo of the upload around what is masked tightly."""


class Inpainting(BaseModel):
    """What a masked request does with its upload; all values are in pixels of the upright upload.

    `size` is its width and height, and that of the result. The model draws the part `box`; where the mask is black, the
    upload's own pixels are put back. Inside the mask the drawn pixels fade in over `feather` pixels from its edge.
    """

    model_config = ConfigDict(frozen=True)

    size: tuple[int, int]
    box: Box
    feather: int

    @property
    def drawn_part(self) -> tuple[int, int]:
        """Return width and height of `box`."""
        left, upper, right, lower = self.box
        return right - left, lower - upper


def inpaint(size: tuple[int, int], open_box: Box, feather: int | None, padding: int | None) -> Inpainting:
    """Return how to inpaint an upload of this size, of which all that may change is in `open_box`.

    Without `feather` it is 0.4 % of the longer side. With `padding`, only `open_box` and that many pixels around it are
    drawn, without it the whole upload.
    """
    width, height = size
    box = (0, 0, width, height)
    if padding is not None:
        left, upper, right, lower = open_box
        box = (
            max(0, left - padding),
            max(0, upper - padding),
            min(width, right + padding),
            min(height, lower + padding),
        )
    if feather is None:
        feather = round(_FEATHER_SHARE * max(size))
    return Inpainting(size=size, box=box, feather=feather)
