"""Processors of text encoders that read pictures too, without what would need the package torchvision.

The pipelines that edit pictures never use a processor's half for films, and FLUX.2 dev gives its processor texts alone.
"""

import json
from pathlib import Path
from typing import Any

import transformers


class _Pictures:
    """A processor without a part for films: transformers loads the parts that the constructor names."""

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: Any = None, **_: Any) -> None:
        super().__init__(image_processor, tokenizer, chat_template=chat_template)  # type: ignore[call-arg]


_PICTURES = {
    name: type(name, (_Pictures, getattr(transformers, name)), {})
    for name in ("Qwen2VLProcessor", "Qwen2_5_VLProcessor", "Qwen3VLProcessor")
}
_TEXTS = {"PixtralProcessor"}


def load_processors(pipeline: Path) -> dict[str, Any]:
    """Return the processors of this directory for the constructor of its pipeline; None for those of texts alone."""
    processors: dict[str, Any] = dict.fromkeys(_parts(pipeline, _TEXTS))
    for name, class_name in _parts(pipeline, _PICTURES).items():
        processors[name] = _load(_PICTURES[class_name], pipeline / name)
    return processors


def load_text_processors(pipeline: Path) -> dict[str, Any]:
    """Return the tokenizers that take the places of processors of texts alone.

    diffusers refuses them in the constructor, since they are no processors.
    """
    return {name: _load(transformers.PreTrainedTokenizerFast, pipeline / name) for name in _parts(pipeline, _TEXTS)}


def _parts(pipeline: Path, classes: Any) -> dict[str, str]:
    """Return the names of the parts that have one of these classes of transformers, and their classes."""
    index: dict[str, Any] = json.loads((pipeline / "model_index.json").read_text())
    named = {name: value[1] for name, value in index.items() if isinstance(value, list) and value[0] == "transformers"}
    return {name: class_name for name, class_name in named.items() if class_name in classes}


def _load(processor_class: Any, directory: Path) -> Any:
    return processor_class.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
