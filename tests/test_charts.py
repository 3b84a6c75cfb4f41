import re

import pytest

from agentgym_prm.charts import (
    Bin,
    Panel,
    Series,
    interval_bar,
    interval_chart,
    line_chart,
    nice_ticks,
    panel_chart,
    reliability_diagram,
)


def test_curves_lie_where_their_numbers_are():
    # Axes run from 0 to 10 over 58..466 and from 0 to 1 over 250..12 pixels.
    svg = line_chart([Series("a", [(0, 0.0), (5, 0.5), (10, 1.0)]), Series("b", [(10, 0.25)])], "step", "loss")
    assert 'points="58.0,250.0 262.0,131.0 466.0,12.0"' in svg
    assert 'points="466.0,190.5"' in svg
    assert 'class="series-1"' in svg
    texts = re.findall(r"<text[^>]*>(.*?)</text>", svg)
    assert texts == ["0", "0.2", "0.4", "0.6", "0.8", "1", "0", "2", "4", "6", "8", "10", "step", "loss"]


def test_points_tell_their_numbers():
    svg = line_chart([Series("a <b>", [(2, 0.125)])], "step", "loss")
    assert "<title>a &lt;b&gt; 0.125 at 2</title>" in svg


def test_a_band_lies_between_its_ends_and_in_the_colour_of_its_curve():
    # One panel is 238 pixels high below a head of 32: 0 to 1 over 270..32, and 0 to 10 over 58..466.
    series = Series("a", [(0, 0.5), (10, 0.5)], [(0, 0.25, 0.75), (10, 0.0, 1.0)], colour=2)
    svg = panel_chart([Panel("share", [series])], "update")
    assert 'points="58.0,91.5 466.0,32.0 466.0,270.0 58.0,210.5"' in svg
    assert svg.count('<g class="series-2">') == 2


def test_panels_share_the_horizontal_axis_and_have_vertical_ones_of_their_own():
    high = Panel("high", [Series("a", [(0, 100.0), (4, 200.0)])])
    low = Panel("low", [Series("b", [(10, 0.0)])], within=(0.0, 1.0))
    svg = panel_chart([high, low], "update", marks=[5.0])
    # Panels are 130 high below heads of 32: from 162 up to 32, and from 324 up to 194.
    assert 'points="58.0,162.0 221.2,32.0"' in svg
    assert 'points="466.0,324.0"' in svg
    assert svg.count('class="diagonal" x1="262.0"') == 2
    assert [text for text in re.findall(r"<text[^>]*>(.*?)</text>", svg) if not text[0].isdigit()] == [
        "high", "low", "update",
    ]  # fmt: skip


def test_intervals_of_several_agents_are_drawn_to_one_scale():
    svg = interval_chart([("one", 0.0, 0.5, 1.0), ("two & more", 0.25, 0.25, 0.25)])
    # 0 to 1 over 190..446; rows are 26 high from 12 on.
    assert 'class="range" x1="190.0" y1="25.0" x2="446.0" y2="25.0"' in svg
    assert 'cx="254.0" cy="51.0"' in svg
    assert "<title>two &amp; more: 25.0 % [25.0, 25.0]</title>" in svg


def test_a_reliability_diagram_shows_counts():
    svg = reliability_diagram([Bin(0.0, 0.5, 20, 0.25, 0.5), Bin(0.5, 1.0, 12345, 0.75, 1.0)])
    assert 'points="160.0,131.0 364.0,12.0"' in svg
    assert "<title>12345 judgements</title>" in svg
    assert ">12k<" in svg


def test_an_interval_is_drawn_to_scale():
    svg = interval_bar(0.25, 0.5, 1.0)
    assert 'class="range" x1="32.0" y1="8.0" x2="116.0"' in svg
    assert 'cx="60.0"' in svg


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-3, 4, [-4, -2, 0, 2, 4]),
        (10, 4000, [0, 1000, 2000, 3000, 4000]),
        (0, 0, [0, 0.2]),
        (-2e-8, 1.2, [0, 0.5, 1, 1.5]),
    ],
)
def test_ticks_are_round_and_enclose_the_data(low, high, ticks):
    assert nice_ticks(low, high) == pytest.approx(ticks)


def test_labels_are_escaped():
    svg = line_chart([Series("a", [(0, 0.0)])], "<x>", '"y" & <z>')
    assert "<x>" not in svg
    assert "<z>" not in svg
    assert (
        svg.count("&lt;x&gt;") == svg.count("&quot;y&quot; &amp; &lt;z&gt;") == 2
    )  # on the axis and in the description
