import re

import pytest

from agentgym_prm.charts import Bin, Series, interval_bar, line_chart, nice_ticks, reliability_diagram


def test_curves_lie_where_their_numbers_are():
    # Axes run from 0 to 10 over 58..466 and from 0 to 1 over 250..12 pixels.
    svg = line_chart([Series("a", [(0, 0.0), (5, 0.5), (10, 1.0)]), Series("b", [(10, 0.25)])], "step", "loss")
    assert 'points="58.0,250.0 262.0,131.0 466.0,12.0"' in svg
    assert 'points="466.0,190.5"' in svg
    assert 'class="series-1"' in svg
    texts = re.findall(r"<text[^>]*>(.*?)</text>", svg)
    assert texts == ["0", "0.2", "0.4", "0.6", "0.8", "1", "0", "2", "4", "6", "8", "10", "step", "loss"]


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
