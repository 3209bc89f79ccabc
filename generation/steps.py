"""How many steps a pipeline runs, and which strengths leave a step that starts from the picture."""

import math
from typing import Any

from generation.family_traits import Guidance, StepRule, Traits
from generation.parameters import InvalidField


def executed_steps(steps: int, strength: float, rule: StepRule) -> int:
    """Return how many of `steps` a pipeline runs with this strength, as `get_timesteps` of diffusers computes it."""
    match rule:
        case StepRule.ROUND_DOWN:
            return min(int(steps * strength), steps)
        case StepRule.ROUND_UP:
            return steps - int(max(steps - min(steps * strength, steps), 0))
        case StepRule.ALL:
            return steps


def keep_to_trained_steps(values: dict[str, Any], trained: int, model_id: str) -> list[str]:
    """Change strength and steps to what the schedule of the training has, as LCM's scheduler requires; return warnings."""
    warnings, strength, steps = [], values["strength"], values["num_inference_steps"]
    if int(trained * strength) < 1:
        values["strength"] = 1 / trained
        warnings.append(f"strength {strength:g} was raised to {1 / trained:g}, the least that {model_id} works with.")
    most = int(trained * values["strength"])
    if steps > most:
        values["num_inference_steps"] = most
        with_strength = f"works with at strength {values['strength']:g}"
        warnings.append(f"num_inference_steps {steps} was lowered to {most}, the most that {model_id} {with_strength}.")
    return warnings


def effective_strength(strength: float, steps: int, model_id: str, traits: Traits) -> tuple[float, list[str]]:
    """Return a strength with at least one step that starts from the picture, and warnings.

    Raises `InvalidField` if rounding down leaves no step, unless the model has few steps anyway. Where steps are rounded
    up and none is left out, the run would start from noise alone, so lower the strength by as little as leaves one out.
    """
    executed = executed_steps(steps, strength, traits.step_rule)
    if traits.step_rule is StepRule.ROUND_UP and executed == steps > 1:
        lower = (steps - 1) / steps
        while executed_steps(steps, lower, traits.step_rule) == steps:  # rounding
            lower = math.nextafter(lower, 0)
        warning = f"strength {strength:g} was lowered to {lower:g}: with {steps} steps, more would ignore the picture."
        return lower, [warning]
    if executed >= 1:
        return strength, []
    minimum = 1 / steps
    while executed_steps(steps, minimum, traits.step_rule) < 1:  # rounding: 49 * (1 / 49) is below 1
        minimum = math.nextafter(minimum, 1)
    if traits.guidance is Guidance.NONE:  # distilled to few steps
        return minimum, [f"strength {strength} was raised to {minimum:g}, so that one step of {steps} remains."]
    # Rounded up, so that what is told is accepted.
    allowed = f"from {math.ceil(minimum * 1e4) / 1e4:g} to 1" if traits.step_rule is StepRule.ROUND_DOWN else "above 0"
    more = ", or more steps" if strength > 0 else ""
    raise InvalidField(
        "strength", f"strength {strength:g} leaves none of {steps} steps for {model_id}: use a strength {allowed}{more}"
    )
