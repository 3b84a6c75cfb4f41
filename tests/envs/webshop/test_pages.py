"""Every page of a small shop, written out by hand from the original's templates."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from agentgym_prm.envs.webshop.catalog import Product, catalogue_of
from agentgym_prm.envs.webshop.engine import Engine
from agentgym_prm.envs.webshop.markup import html
from agentgym_prm.envs.webshop.pages import SUB_PAGES, Page, Sheet, View
from tests.envs.webshop.shops import HOSTILE_TEXTS, shoe_goal, shop_of, small_catalogue

BASE = "http://127.0.0.1:3000"
ASK = "i need a red shoe with a rubber sole, and price lower than 50.00 dollars"
HEAD = f"Instruction:\n{ASK}\n[button] Back to Search [button_]\n"


def engine_after(*commands: str, **kwargs) -> Engine:
    engine = Engine(shop_of(small_catalogue()), **kwargs)
    engine.reset(shoe_goal(), "s1")
    for command in commands:
        engine.step(command)
        assert engine.valid, command
    return engine


def test_search_page():
    engine = engine_after()
    assert engine.observe("text") == f"WebShop [SEP] Instruction: [SEP] {ASK} [SEP] Search"
    # The blank after the colon is the template's.
    assert engine.observe("text_rich") == f"WebShop\nInstruction: \n{ASK}\n[button] Search [button_]\n"
    assert engine.observe("url") == f"{BASE}/s1"
    assert engine.clickables() == ("search",)
    assert engine.has_search_bar
    assert engine.admissible_commands() == ("search[<keywords>]",)


def test_results_page():
    engine = engine_after("search[Trail  Shoe]")
    assert engine.observe("text_rich") == (
        f"{HEAD}Page 1 (Total results: 1)\n[button] Next > [button_]\n"
        "\n[button] B000000001 [button_]\nTrail Shoe\n$40.0 to $48.0\n"
    )
    assert engine.observe("text") == (
        f"Instruction: [SEP] {ASK} [SEP] Back to Search [SEP] Page 1 (Total results: 1) [SEP] Next > [SEP] B000000001 "
        "[SEP] Trail Shoe [SEP] $40.0 to $48.0"
    )
    assert engine.observe("url") == f"{BASE}/search_results/s1/trail++shoe/1"
    assert engine.clickables() == ("back to search", "next >", "b000000001")
    assert not engine.has_search_bar
    assert engine.admissible_commands() == ("click[b000000001]", "click[back to search]", "click[next >]")


def test_second_page_of_results_has_both_buttons():
    engine = engine_after("search[socks]", "click[next >]")
    assert engine.observe("text_rich") == (
        f"{HEAD}Page 2 (Total results: 11)\n[button] < Prev [button_]\n"
        "[button] Next > [button_]\n\n[button] B00000001A [button_]\nSocks 10\n$12.5\n"
    )
    assert engine.observe("url") == f"{BASE}/search_results/s1/socks/2"
    assert engine.clickables() == ("back to search", "< prev", "next >", "b00000001a")


def test_results_without_products_say_so_and_still_have_a_next_page():
    past_the_end = engine_after("search[socks]", "click[next >]", "click[next >]")
    assert past_the_end.observe("text_rich") == (
        f"{HEAD}Page 3 (Total results: 11)\n[button] < Prev [button_]\n[button] Next > [button_]\n"
    )
    nothing = engine_after("search[xylophone]")
    assert nothing.observe("text_rich") == (f"{HEAD}Page 1 (Total results: 0)\n[button] Next > [button_]\n")


def test_product_page():
    engine = engine_after("search[trail shoe]", "click[b000000001]")
    assert engine.observe("text_rich") == (
        f"{HEAD}[button] < Prev [button_]\n"
        "color\n  [button] red [button_]\n  [button] dark blue [button_]\n"
        "size\n  [button] 7 [button_]\n  [button] 8 [button_]\n"
        "Trail Shoe\nPrice: $40.0 to $48.0\nRating: N.A.\n[button] Description [button_]\n[button] Features [button_]\n"
        "[button] Reviews [button_]\n[button] Buy Now [button_]\n"
    )
    assert engine.observe("text") == (
        f"Instruction: [SEP] {ASK} [SEP] Back to Search [SEP] < Prev [SEP] color [SEP] red [SEP] dark blue [SEP] size "
        "[SEP] 7 [SEP] 8 [SEP] Trail Shoe [SEP] Price: $40.0 to $48.0 [SEP] Rating: N.A. [SEP] Description [SEP] "
        "Features [SEP] Reviews [SEP] Buy Now"
    )
    assert engine.observe("url") == f"{BASE}/item_page/s1/B000000001/trail+shoe/1/{{}}"
    buttons = ("back to search", "< prev", "description", "features", "reviews", "buy now")
    assert engine.clickables() == (*buttons, "red", "dark blue", "7", "8")
    assert engine.admissible_commands() == (
        "click[7]", "click[8]", "click[< prev]", "click[back to search]", "click[buy now]", "click[dark blue]",
        "click[description]", "click[features]", "click[red]", "click[reviews]",
    )  # fmt: skip


def test_chosen_options_are_marked_and_announced_with_the_last_on_the_page_first():
    engine = engine_after("search[trail shoe]", "click[b000000001]", "click[7]", "click[dark blue]")
    assert engine.observe("text_rich") == (
        "You have clicked 7.\nYou have clicked dark blue.\n"
        f"{HEAD}[button] < Prev [button_]\n"
        "color\n  [button] red [button_]\n  [clicked button] dark blue [clicked button_]\n"
        "size\n  [clicked button] 7 [clicked button_]\n  [button] 8 [button_]\n"
        "Trail Shoe\nPrice: $40.0 to $48.0\nRating: N.A.\n[button] Description [button_]\n[button] Features [button_]\n"
        "[button] Reviews [button_]\n[button] Buy Now [button_]\n"
    )
    assert engine.observe("url") == (
        f'{BASE}/item_page/s1/B000000001/trail+shoe/1/{{"size": "7", "color": "dark blue"}}'
    )


def test_a_product_that_was_looked_at_is_marked_among_the_results():
    engine = engine_after("search[trail shoe]", "click[b000000001]", "click[< prev]")
    assert "\n\n[clicked button] B000000001 [clicked button_]\nTrail Shoe\n" in engine.observe("text_rich")


@pytest.mark.parametrize(
    ("button", "lines"),
    [
        ("Description", ["A light shoe."]),
        ("Features", [" rubber sole", " wide fit"]),
        ("Reviews", []),
        ("Attributes", [" rubber sole", " light weight", "fashion", "shoes", "Clothing › Shoes"]),
    ],
)
def test_sub_pages(button, lines):
    engine = engine_after(
        "search[trail shoe]", "click[b000000001]", "click[red]", f"click[{button}]", show_attributes=True
    )
    head = f"{HEAD}[button] < Prev [button_]\n"
    assert engine.observe("text_rich") == head + "".join(f"{line}\n" for line in lines)
    texts = ["Instruction:", ASK, "Back to Search", "< Prev", *(line.strip() for line in lines)]
    assert engine.observe("text") == " [SEP] ".join(texts)
    # The options as Python writes a dict, not as JSON.
    assert engine.observe("url") == f"{BASE}/item_sub_page/s1/B000000001/trail+shoe/1/{button}/{{'color': 'red'}}"
    assert engine.clickables() == ("back to search", "< prev")


def test_the_attributes_button_is_there_only_if_asked_for():
    shown = engine_after("search[trail shoe]", "click[b000000001]", show_attributes=True)
    hidden = engine_after("search[trail shoe]", "click[b000000001]")
    assert shown.clickables()[4:6] == ("reviews", "attributes")
    assert "attributes" not in hidden.clickables()


def test_last_page():
    engine = engine_after("search[trail shoe]", "click[b000000001]", "click[red]", "click[buy now]")
    lines = [
        "Thank you for shopping with us!",
        "Your code: ",
        "None",
        " (Paste it in your MTurk interface.)",
        "Purchased",
    ]
    lines += ["asin", "B000000001", "options", '{"color": "red"}', "attrs", "None", "category", "None", "query", "None"]
    lines += ["product category", "None", "Target", "asin", "options", "attrs", "price upper", "instuction text"]
    lines += ["category", "product category", "query", "Goal ", "None", "Reward", "Your score (min 0.0, max 1.0)"]
    # (1 attribute + 1 option + the price, at most 48) / 3, and all nouns of the title agree.
    lines += ["1.0", "Reward Details ", "None"]
    assert engine.observe("text_rich") == "".join(f"{line}\n" for line in lines)
    assert engine.observe("text") == " [SEP] ".join(line.strip() for line in lines)
    assert engine.observe("url") == f"{BASE}/done/s1/B000000001/{{'color': 'red'}}"
    assert engine.clickables() == engine.admissible_commands() == ()


def test_blank_texts_vanish_or_shrink_as_an_html_parser_leaves_them():
    # The lamp's bullet points are "" and " \n", and the template puts a blank in front of each: the first becomes one
    # blank, a line of its own; the second has a line break in it and vanishes.
    engine = engine_after("search[lamp]", "click[b000000002]", "click[features]")
    head = f"{HEAD}[button] < Prev [button_]\n"
    assert engine.observe("text_rich") == head + " \n"
    assert engine.observe("text") == f"Instruction: [SEP] {ASK} [SEP] Back to Search [SEP] < Prev [SEP] "


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        (" ", " \n"),
        (" \t\r\f", " \n"),
        ("\t\n ", ""),
        ("\x0b", "\x0b\n"),
        ("\xa0", "\xa0\n"),
        (" a ", " a \n"),
    ],
)
def test_only_the_blanks_of_ascii_shrink(text, line):
    shoe = replace(small_catalogue().product(0), description=text)
    engine = Engine(shop_of(catalogue_of([shoe], "one")))
    engine.reset(shoe_goal(), "s1")
    for command in ("search[trail]", "click[b000000001]", "click[description]"):
        engine.step(command)
    assert engine.observe().partition("< Prev [button_]\n")[2] == line


@pytest.mark.parametrize(
    ("value", "keywords", "chosen", "marked"),
    [
        ("red", "trail", "", False),
        ("red", "trail", "red", True),
        ('5"', "trail", '5"', False),  # JSON writes "5\""
        ("größe", "trail", "größe", False),  # JSON writes "gr\u00f6\u00dfe"
        ("color", "trail", "8", True),  # {"color": "8"}: the name of the option that was chosen
        ("red", 'trail "red" shoe', "", True),  # …/trail+"red"+shoe/1/{}
        ("red", "trail 'red'", "", False),
    ],
)
def test_an_option_is_marked_if_the_address_holds_it_in_quotation_marks(value, keywords, chosen, marked):
    shoe = replace(small_catalogue().product(0), options={"color": (value, "8")})
    engine = Engine(shop_of(catalogue_of([shoe], "one")))
    engine.reset(shoe_goal(), "s1")
    for command in (f"search[{keywords}]", "click[b000000001]", *([f"click[{chosen}]"] if chosen else [])):
        engine.step(command)
        assert engine.valid
    assert (f"[clicked button] {value} [clicked button_]" in engine.observe()) == marked
    assert (f"You have clicked {value}.\n" in engine.observe()) == marked


SEARCH_HTML = """<!DOCTYPE html>
<html>
  <head>
    <link rel="stylesheet" href="/static/style.css">
    <link rel="stylesheet" href="https://cdnjs.cloudflare.com/ajax/libs/font-awesome/4.7.0/css/font-awesome.min.css">
    <link rel="stylesheet" href="https://maxcdn.bootstrapcdn.com/bootstrap/3.4.1/css/bootstrap.min.css">
    <link rel="icon" href="data:,">
  </head>
  <body>
    <!-- Code reference: https://bootsnipp.com/snippets/m13mN -->
    <div class="container" style="margin-top: 8%;">
      <div class="col-md-6 col-md-offset-3">     
        <div class="row">
          <div id="logo" class="text-center">
            <h2>WebShop</h2>
          </div>
          <div id="instruction-text" class="text-center">
            <h4>Instruction: <br>a &lt;red&gt; &#34;shoe&#34; &amp; the lady&#39;s</h4>
          </div>
          <form role="form" id="form-buscar" method="post" action="/?session_id=s+%26%3C1">
            <div class="form-group">
              <div class="input-group">
                <input id="search_input" class="form-control" type="text" name="search_query" placeholder="Search..." required/>
                <span class="input-group-btn">
                  <button class="btn btn-success" type="submit"><i class="glyphicon glyphicon-search" aria-hidden="true"></i>Search</button>
                </span>
              </div>
            </div>
          </form>
        </div>            
      </div>
    </div>
  </body>
</html>"""  # noqa: E501, W291  as the original's page is


def test_search_page_as_html():
    engine = Engine(shop_of(small_catalogue()), observation_mode="html")
    goal = replace(shoe_goal(), instruction='a <red> "shoe" & the lady\'s')
    assert engine.reset(goal, "s &<1") == SEARCH_HTML


def test_addresses_in_html():
    engine = engine_after("search[trail shoe]", "click[b000000001]", "click[7]")
    page = engine.observe("html")
    start = "/?session_id=s1&amp;asin=B000000001&amp;keywords=trail&amp;keywords=shoe&amp;page=1"
    # urlencode of {'size': '7'}: quotes, commas and colons stay, braces do not.
    chosen = "%7B&#39;size&#39;:+&#39;7&#39;%7D"
    assert f'<form method="post" action="{start}&amp;sub_page=Features&amp;options={chosen}">' in page
    assert f'action="/?session_id=s1&amp;asin=B000000001&amp;options={chosen}"' in page
    assert 'action="/?session_id=s1&amp;keywords=trail&amp;keywords=shoe&amp;page=1"' in page
    both = "%7B&#39;size&#39;:+&#39;7&#39;,+&#39;color&#39;:+&#39;dark+blue&#39;%7D"
    assert (
        f'<input type="radio" id="radio_color1" name="color" value="dark blue" data-url="{start}&amp;options={both}">'
    ) in page
    assert 'JSON.parse(`{"size": "7"}`)' in page
    # Sorted by key, not in the order of the options.
    assert '`{"7": null, "8": null, "dark blue": null, "red": "https://example.org/red.jpg"}`' in page


class Elements(HTMLParser):
    """The tags of a page with their attributes' names, and comments, in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, tuple(name for name, _ in attrs)))

    def handle_comment(self, data):
        self.found.append(("comment", ()))


def views(product: Product, text: str) -> list[View]:
    """Every page about ``product``, in a session where everything that is said is ``text``."""
    sheet = Sheet(product)
    opening = View(session=text, instruction=text, show_attributes=True)
    results = replace(opening, page=Page.RESULTS, keywords=(text, text), number=2, results=1, shown=(sheet,))
    item = replace(results, page=Page.ITEM, sheet=sheet, options={text: text})
    sub_pages = [replace(item, page=Page.SUB_PAGE, sub_page=sub_page) for sub_page in SUB_PAGES]
    return [opening, results, item, *sub_pages, replace(item, page=Page.DONE)]


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_no_text_of_a_product_or_an_agent_becomes_markup(text):
    plain = small_catalogue().product(0)
    hostile = replace(
        plain, asin=text, title=text, description=text, bullet_points=(text, text), category=text, query=text,
        product_category=text, price_tag=text, attributes=(text, text), image=text,
        options={text: (text, text), "size": ("7", text)}, option_images={text: text},
    )  # fmt: skip
    for expected, view in zip(views(plain, "plain"), views(hostile, text), strict=True):
        assert Elements(html(view)).found == Elements(html(expected)).found


def test_an_unescaped_text_would_be_noticed():
    page = html(views(small_catalogue().product(0), "plain")[0])
    assert Elements(page).found != Elements(page.replace("plain", "<b>plain</b>")).found
