from xml.etree.ElementTree import Element, fromstring

import pytest

from lakehouse.ontology import LabelClass, build_labelling_interface

CLASSES = (LabelClass("red_apple", "Red apple", "#cc0000"), LabelClass("cow", "Cow & calf", "#0000cc"))


def parse_interface() -> Element:
    return fromstring(build_labelling_interface(CLASSES))  # noqa: S314 - our own text


@pytest.mark.parametrize("class_id", ["", "Apple", "red apple", "1st", "äpfel", "a" * 65])
def test_a_class_id_that_would_not_stay_stable_is_refused(class_id: str) -> None:
    with pytest.raises(ValueError, match="class id"):
        LabelClass(class_id, "Apple")


def test_a_colour_that_a_browser_would_not_understand_is_refused() -> None:
    with pytest.raises(ValueError, match="#rrggbb"):
        LabelClass("apple", "Apple", color="red")


@pytest.mark.parametrize("tag", ["Choice", "Label"])
def test_people_see_names_and_answers_carry_ids(tag: str) -> None:
    shown = {item.get("value"): item.get("alias") for item in parse_interface().iter(tag)}

    assert shown == {"Red apple": "red_apple", "Cow & calf": "cow"}


def test_both_controls_point_at_the_image_of_the_task() -> None:
    interface = parse_interface()

    image = interface.find("Image")
    assert image is not None
    assert image.get("value") == "$image"
    assert {tag.get("toName") for name in ("Choices", "RectangleLabels") for tag in interface.iter(name)} == {
        image.get("name")
    }


def test_the_same_classes_always_give_the_same_interface() -> None:
    assert build_labelling_interface(CLASSES) == build_labelling_interface(list(CLASSES))
