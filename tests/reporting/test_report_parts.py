"""Laws of the page's parts: numbers, choices, figures."""

import math
import re

import numpy as np
import pandas as pd
import pytest

from microscopy_cls.reporting.figures import confusion_matrix, finite_range, fold_strip
from microscopy_cls.reporting.montage import NUM_PICTURES, choose_spread, jpeg_uri, num_per_class, thumbnail_size
from microscopy_cls.reporting.numbers import Estimate, counted, duration, finite, shortened, shown, span
from microscopy_cls.reporting.tables import confusions, picture_facts


def test_shares_have_one_decimal_in_percent_and_all_else_three():
    assert shown(0.9034, "percent") == "90.3\u202f%"
    assert shown(0.9034, "decimal") == "0.903"
    assert span(0.882, 0.9231, "percent") == "88.2–92.3\u202f%"
    assert span(0.882, 0.9231, "decimal") == "0.882–0.923"
    assert shown(None, "percent") == span(None, 1.0, "decimal") == "–"


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.4, "12 s"), (125, "2 min 05 s"), (7500, "2 h 05 min"), (None, "–"), (59.7, "1 min 00 s")]
)
def test_durations_read_like_a_clock(seconds, text):
    assert duration(seconds) == text


def test_one_image_and_two_images():
    assert counted(1, "image") == "1 image"
    assert counted(20_000, "image") == "20,000 images"


def test_shortened_names_keep_both_ends():
    text = shortened("anadenanthera_colubrina_2019_04", 20)
    assert len(text) == 20
    assert text.startswith("anadenanther")
    assert text.endswith("2019_04"[-6:])
    assert shortened("short", 20) == "short"


@pytest.mark.parametrize("nothing", [None, "x", {}, {"value": None}, {"value": math.nan}, {"fold_values": None}])
def test_figures_without_a_value_are_tolerated(nothing):
    estimate = Estimate.read(nothing, "decimal")
    assert estimate.text == estimate.interval == estimate.spread == "–"
    assert fold_strip(estimate, "Accuracy") is None


def test_only_finite_numbers_are_numbers():
    assert finite(3) == 3.0
    assert finite(math.inf) is finite(math.nan) is finite("3") is finite(None) is None


def test_pictures_come_from_as_many_groups_as_possible():
    groups = ["a"] * 50 + ["b"] * 3 + ["c"]
    chosen = choose_spread(groups, 3, np.random.default_rng(0))
    assert {groups[position] for position in chosen} == {"a", "b", "c"}
    assert choose_spread(groups, 3, np.random.default_rng(0)) == chosen


def test_all_members_are_chosen_once_when_there_are_few():
    assert choose_spread(["a", "a", "b"], 12, np.random.default_rng(0)) == [0, 1, 2]
    assert choose_spread([], 12, np.random.default_rng(0)) == []


def test_pictures_of_pure_noise_stay_below_nine_megabytes():
    noise = np.random.default_rng(0).integers(0, 255, (128, 128, 3)).astype(np.uint8)
    assert len(jpeg_uri(noise)) * NUM_PICTURES < 9e6
    assert all(num_per_class(num) * num <= max(num, NUM_PICTURES) for num in range(1, 1000))


@pytest.mark.parametrize(
    ("original", "size"), [((400, 200), (128, 64)), ((20, 10), (128, 64)), ((1000, 3), (128, 24)), ((0, 0), (24, 24))]
)
def test_thumbnails_keep_the_proportions_of_the_image(original, size):
    assert thumbnail_size(*original) == size


def test_confusions_are_the_largest_cells_off_the_diagonal():
    found = confusions(np.array([[5, 1, 0], [4, 4, 0], [0, 0, 9]]), ["a", "b", "c"])
    assert [(one.truth, one.predicted, one.num_images, one.share) for one in found] == [
        ("b", "a", 4, 0.5),
        ("a", "b", 1, pytest.approx(1 / 6)),
    ]


@pytest.mark.parametrize("num", [2, 8, 23, 50])
def test_every_cell_with_images_shows_its_count_and_every_class_its_label(num):
    counts = np.diag(np.full(num, 777)) + np.diag(np.full(num - 1, 3), 1)
    figure = confusion_matrix(counts, [f"name{k}" for k in range(num)])
    assert figure.count(">777<") == num
    assert figure.count(">3<") == num - 1
    assert all(figure.count(f">name{k}<") == 2 for k in range(num))


def test_a_small_matrix_is_told_whole_in_its_alternative_text():
    figure = confusion_matrix(np.array([[9, 1], [0, 7]]), ["sick", "<well>"])
    assert "sick was named 9 as sick, 1 as &lt;well&gt;." in figure


def test_figures_take_every_colour_from_the_style_sheet():
    figure = confusion_matrix(np.array([[9, 1], [0, 7]]), ["a", "fill #010101"])
    assert not re.search(r"(fill|stroke): #", figure)
    assert ">fill #010101<" in figure


def test_an_empty_class_leaves_its_row_empty():
    assert confusion_matrix(np.array([[3, 0], [0, 0]]), ["a", "b"]).count(">3<") == 1


def test_limits_hold_all_finite_values_and_exist_without_any():
    low, high = finite_range(pd.DataFrame({"a": [1.0, np.nan], "b": [np.inf, 3.0]}))
    assert low < 1 < 3 < high
    assert finite_range(pd.DataFrame({"a": [np.nan]})) == (0.0, 1.0)


def test_rare_sizes_are_summed_up():
    usable = pd.DataFrame({"width_px": range(10, 20), "height_px": 7, "format": "PNG", "bit_depth": 16, "channels": 1})
    facts = dict(picture_facts(usable))
    assert facts["Width"] == "10 to 19 px"
    assert facts["Height"] == "7 px"
    assert facts["Commonest sizes"].endswith("others (5)")
    assert facts["Bits a channel"] == "16 (10)"
