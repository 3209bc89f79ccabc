"""Numbers of a model card: compare measurements with the card."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """A row of the card: name, value, and tolerance for other machines."""

    name: str
    value: float
    tolerance: float
    unit: str

    def __str__(self) -> str:
        return f"| {self.name} | {self.value:.1f} ± {self.tolerance:.1f} {self.unit} |"


def hold_against_card(directory: Path, figures: list[Figure]) -> None:
    """Print the table. Exit with the differences from the CARD.md in the model's directory, if there is one."""
    sys.stdout.write("| | figure ± tolerance |\n|---|---|\n" + "".join(f"{figure}\n" for figure in figures))
    path = directory / "CARD.md"
    if path.exists() and (differences := compare(path.read_text(), figures)):
        sys.exit("\n".join(differences))


def compare(card: str, figures: list[Figure]) -> list[str]:
    """Return a sentence for each row of the card whose measured value differs by more than the tolerance."""
    stated = {
        match[1]: (float(match[2]), float(match[3]))
        for match in re.finditer(r"^\| (.+?) \| ([\d.]+) ± ([\d.]+) ", card, re.M)
    }
    measured = {figure.name: figure.value for figure in figures}
    problems = [f"The card has no row for “{name}”; paste the printed one." for name in measured.keys() - stated.keys()]
    for name, (value, tolerance) in stated.items():
        if name not in measured:
            problems.append(f"The card's “{name}” is not measured; remove the row.")
        elif not abs(measured[name] - value) <= tolerance:  # NaN is not within any tolerance
            problems.append(f"“{name}” is {measured[name]:.1f}; the card says {value} ± {tolerance}.")
    return sorted(problems)
