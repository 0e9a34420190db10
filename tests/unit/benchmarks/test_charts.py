from xml.etree import ElementTree as ET

from benchmarks.charts import Bar, Panel, draw_bars
from benchmarks.cleansing import draw_costs
from benchmarks.results import Result

SVG = "{http://www.w3.org/2000/svg}"


def test_bars_are_as_long_as_their_values_are_large() -> None:
    panel = Panel("files < 2 MB", [Bar("others & all", 80.0, is_ours=False), Bar("ours", 20.0, is_ours=True)])
    root = ET.fromstring(draw_bars("Cost", "ms", [panel]))  # noqa: S314 - drawn above
    background, longer, shorter = (float(bar.attrib["width"]) for bar in root.iter(f"{SVG}rect"))
    assert longer == 4 * shorter
    assert longer < background
    assert {"files < 2 MB", "others & all", "80", "20"} <= {text.text for text in root.iter(f"{SVG}text")}


def test_the_chart_of_cleansing_has_a_panel_for_each_kind_of_image_and_the_costliest_first() -> None:
    results = [
        Result("large: Farmy, all of it", "CPU ms an image", (41.0, 42.0, 43.0)),
        Result("large: CleanVision 0.3.7", "CPU ms an image", (800.0,)),
        Result("large: CleanVision 0.3.7", "ms an image", (900.0,)),
        Result("small: Farmy, all of it", "CPU ms an image", (6.0,)),
    ]
    texts = [text.text for text in ET.fromstring(draw_costs(results)).iter(f"{SVG}text")]  # noqa: S314
    assert texts[2:] == [
        "large",
        "CleanVision 0.3.7",
        "800",
        "Farmy, all of it",
        "42",
        "small",
        "Farmy, all of it",
        "6",
    ]
