"""The classes that images are labelled with, and the labelling interface that follows from them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, indent, tostring

IMAGE_OBJECT = "image"
CHOICE_CONTROL = "class"
BOX_CONTROL = "box"

_CLASS_ID = re.compile(r"[a-z][a-z0-9_]{0,63}")
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True)
class LabelClass:
    """One class.

    Attributes:
        id: Stable identity, never shown to be changed: lower case letters, digits and underscores.
        name: What people see; may change at any time.
        color: Colour in the labelling interface, `#rrggbb`.
        imagenet: ImageNet labels that mean this class: they let the packaged model guess until there is a label
            model.
    """

    id: str
    name: str
    color: str = "#4c78a8"
    imagenet: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _CLASS_ID.fullmatch(self.id):
            raise ValueError(
                f"class id {self.id!r} is not lower case letters, digits and underscores, beginning with a letter"
            )
        if not _COLOR.fullmatch(self.color):
            raise ValueError(f"colour {self.color!r} of class {self.id!r} is not of the form #rrggbb")


def build_labelling_interface(classes: Sequence[LabelClass]) -> str:
    """Return Label Studio's XML for choosing one class for the image and drawing boxes of any class.

    People see the class name; the alias, which is what answers and predictions carry, is the class id, so that a
    renamed class keeps its answers. The choices stand above the image, where they are in sight whatever its size.
    """
    view = Element("View")
    choices = SubElement(view, "Choices", name=CHOICE_CONTROL, toName=IMAGE_OBJECT, choice="single", showInline="true")
    boxes = SubElement(view, "RectangleLabels", name=BOX_CONTROL, toName=IMAGE_OBJECT, canRotate="false")
    SubElement(view, "Image", name=IMAGE_OBJECT, value="$image", zoom="true")
    for label_class in classes:
        SubElement(choices, "Choice", value=label_class.name, alias=label_class.id)
        SubElement(boxes, "Label", value=label_class.name, alias=label_class.id, background=label_class.color)
    indent(view)
    return tostring(view, encoding="unicode")
