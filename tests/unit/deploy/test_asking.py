"""How a panel's query is asked: what Grafana would put in, and what comes back."""

import pytest

from deploy.grafana.ask import ALL, Asker, AskError, Curve, Window, apart, as_matcher, curve_of
from deploy.grafana.units import write


def asker(last_s=3600.0, scrape_s=15.0, **chosen):
    return Asker("http://nowhere", Window(1000.0, 1000.0 + last_s, scrape_s), chosen)


@pytest.mark.parametrize(
    ("last_s", "scrape_s", "filled"),
    [(3600.0, 15.0, "60000ms"), (86_400.0, 15.0, "187800ms"), (60.0, 1.0, "4000ms")],
)
def test_a_rate_spans_four_scrapes_or_a_point_and_a_scrape(last_s, scrape_s, filled):
    assert asker(last_s, scrape_s).fill("[$__rate_interval]") == f"[{filled}]"


def test_the_time_shown_is_filled_in():
    assert asker(90.0).fill("x[$__range]") == "x[90s]"
    assert asker(90.0).fill("x[${__range}]") == "x[90s]"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([ALL], ".*"),
        (["auto"], "auto"),
        (["auto", "best"], "(auto|best)"),
        (["gpt-4.1"], r"gpt-4\\.1"),
        (["a+b", "c(d)"], r"(a\\+b|c\\(d\\))"),
        (["a\\b"], r"a\\\\b"),
    ],
)
def test_a_choice_is_a_regular_expression_inside_of_quotes(values, text):
    assert as_matcher(values) == text
    assert asker(route=values).fill('{route=~"$route"}') == f'{{route=~"{text}"}}'


def test_what_nobody_chose_matches_all():
    assert asker().fill('{route=~"$route"}') == '{route=~".*"}'


def test_groups_of_label_replace_stay_and_unknown_variables_of_grafana_are_refused():
    assert asker().fill('label_replace(x, "a", "$1", "b", "(.*)")') == 'label_replace(x, "a", "$1", "b", "(.*)")'
    with pytest.raises(AskError, match="__interval_ms"):
        asker().fill("$__interval_ms")


def test_a_legend_is_written_from_labels():
    row = {"metric": {"model": "phi", "url": "u"}, "value": [1, "2"]}
    assert curve_of(row, "{{model}} at {{ url }}").legend == "phi at u"
    assert curve_of(row, "__auto").legend == "phi, u"
    assert curve_of({"metric": {"model": "phi"}, "value": [1, "2"]}, "").legend == "phi"


def test_nan_is_no_number():
    curve = curve_of({"metric": {}, "values": [[1, "NaN"], [2, "3"]]}, "")
    assert curve.numbers == [3.0]
    assert not curve_of({"metric": {}, "values": [[1, "NaN"]]}, "").numbers


def test_running_sums_are_taken_apart_in_the_order_of_their_bounds():
    sums = {"+Inf": [5.0, 9.0], "0.1": [1.0, 2.0], "0.5": [4.0, 9.0]}
    curves = [Curve({"le": le}, list(enumerate(values))) for le, values in sums.items()]
    found = {curve.labels["le"]: curve.numbers for curve in apart(curves)}
    assert list(found.items()) == [("0.1", [1.0, 2.0]), ("0.5", [3.0, 7.0]), ("+Inf", [1.0, 0.0])]
    assert list(apart([])) == []


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0, "currencyUSD", "$0"),
        (0.00012, "currencyUSD", "$0.00012"),
        (12.345, "currencyUSD", "$12.3"),
        (-1234.5, "currencyUSD", "-$1.23K"),
        (0.4567, "percentunit", "45.7%"),
        (1.0, "percentunit", "100%"),
        (0.00025, "s", "250 µs"),
        (0.0, "s", "0 s"),
        (95.0, "s", "1.58 mins"),
        (3 * 2**30, "bytes", "3 GiB"),
        (1500.0, "watth", "1.5 kWh"),
        (0.02, "watt", "20 mW"),
        (12.3456, "reqps", "12.3 req/s"),
        (1234.0, "short", "1.23K"),
        (float("2"), "cps", "2 c/s"),
    ],
)
def test_values_are_written_as_grafana_writes_them(value, unit, text):
    assert write(value, unit) == text


def test_decimals_that_a_panel_asks_for_are_kept():
    assert write(0.5, "short", 3) == "0.500"
    assert write(0.000123456, "currencyUSD", 6) == "$0.000123"
