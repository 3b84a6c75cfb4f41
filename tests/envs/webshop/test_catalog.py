import copy
import gzip
import json
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agentgym_prm.envs.webshop import cache, catalog, official
from agentgym_prm.envs.webshop.catalog import HumanInstruction, catalogue_of, open_catalogue
from agentgym_prm.envs.webshop.product import product_of, product_record
from agentgym_prm.errors import DataNotFoundError, GameFormatError, UnknownNameError
from agentgym_prm.search import cache as search_cache
from tests.live.webshop_record_rewards import digest

RAW = {
    "asin": "B000000001",
    "name": "Acme <b>Shoe</b>",
    "full_description": "Good & \u0007 fine, für Füße 👟",
    "small_description": ["Rubber sole", "Light"],
    "category": "fashion",
    "query": " Shoes ",
    "product_category": "Clothing › Shoes",
    "pricing": "$25.00",
    "images": ["https://a/1.jpg", "https://a/2.jpg"],
    "customization_options": {
        "Color": [{"value": " Red/Blue ", "image": "https://a/red.jpg"}, {"value": "GREEN"}],
        "Size": None,
    },
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where ``write`` puts files; with an empty cache."""
    monkeypatch.setenv("AGENTGYM_PRM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def write(folder, products, attributes=None, human=None, ending=""):
    text = products if isinstance(products, str) else json.dumps(products)
    (folder / f"items_shuffle{ending}.json").write_text(text, encoding="utf-8")
    (folder / f"items_ins_v2{ending}.json").write_text(json.dumps(attributes or {}))
    if human is not None:
        (folder / f"items_human_ins{ending}.json").write_text(json.dumps(human))
    return folder


def only(folder, **changes):
    """The one product made of ``RAW`` with changes; ``None`` leaves a key out."""
    write(folder, [{key: value for key, value in (RAW | changes).items() if value is not ...}])
    catalogue = open_catalogue(folder / "items_shuffle.json")
    assert len(catalogue) == 1
    return catalogue.product(0)


def reopened(path, **arguments):
    """A catalogue as another process would open it."""
    catalog._open.cache_clear()
    return open_catalogue(path, **arguments)


def test_a_product_is_cleaned_as_in_the_original(folder):
    about = {"attributes": ["rubber sole"], "instruction": "Find me shoes", "instruction_attributes": ["rubber sole"]}
    people = [{"instruction": "shoes, please.", "instruction_attributes": ["light"], "instruction_options": ["red"]}]
    product = open_catalogue(write(folder, [RAW], {"B000000001": about}, {"B000000001": people})).product(0)
    assert product.asin == "B000000001"
    assert product.title == "Acme <b>Shoe</b>"
    assert product.description == "Good & \u0007 fine, für Füße 👟"
    assert product.bullet_points == ("Rubber sole", "Light")
    assert product.query == "shoes"
    assert (product.category, product.product_category) == ("fashion", "Clothing › Shoes")
    assert (product.pricing, product.price_tag, product.price) == ((25.0,), "$25.0", 25.0)
    assert product.options == {"color": ("red | blue", "green")}
    assert product.option_images == {"red | blue": "https://a/red.jpg", "green": None}
    assert product.attributes == ("rubber sole",)
    assert product.image == "https://a/1.jpg"
    assert (product.instruction, product.instruction_attributes) == ("Find me shoes", ("rubber sole",))
    assert product.human_instructions == (HumanInstruction("shoes, please.", ("light",), ("red",)),)
    assert product.document == ("acme <b>shoe</b> good & \u0007 fine, für füße 👟 rubber sole color: red | blue, green")


def test_what_is_missing_has_the_originals_defaults(folder):
    product = only(folder, small_description="One text", customization_options="", pricing=None)
    assert product.bullet_points == ("One text",)
    assert (product.options, product.option_images) == ({}, {})
    assert product.attributes == ("DUMMY_ATTR",)
    assert (product.instruction, product.instruction_attributes, product.human_instructions) == (None, (), ())
    assert (product.pricing, product.price_tag) == ((100.0,), "$100.0")
    assert product.document.endswith(" one text ")  # no options: an empty text after the blank


def test_attributes_may_be_none_at_all(folder):
    # The original's DUMMY_ATTR is for products without an entry only.
    write(folder, [RAW], {"B000000001": {"attributes": []}})
    assert open_catalogue(folder).product(0).attributes == ()


@pytest.mark.parametrize(
    ("listed", "pricing", "tag"),
    [
        (..., (100.0,), "$100.0"),  # no such key
        (None, (100.0,), "$100.0"),
        ("", (100.0,), "$100.0"),
        (0, (100.0,), "$100.0"),
        ([], (100.0,), "$100.0"),
        ("$5", (5.0,), "$5.0"),
        ("$1,299.00", (1299.0,), "$1299.0"),
        ("$5.00 - $9.50", (5.0, 9.5), "$5.0 to $9.5"),
        ("$9.50 - $5.00", (9.5, 5.0), "$9.5 to $5.0"),
        ("$1 $2 $3", (1.0, 2.0), "$1.0 to $2.0"),
        ("from 7 to $8", (8.0,), "$8.0"),  # what stands before the first dollar sign is ignored
        ("$4 (was 6)", (46.0,), "$46.0"),  # all digits after it count
        ("$-3", (3.0,), "$3.0"),
        ("US$ 2.", (2.0,), "$2.0"),
    ],
)
def test_prices_are_read_as_the_original_reads_them(folder, listed, pricing, tag):
    product = only(folder, pricing=listed)
    assert (product.pricing, product.price_tag) == (pricing, tag)


def test_a_price_in_a_range_follows_from_the_asin(folder):
    asins = [f"B{number:09}" for number in range(20)]
    catalogue = open_catalogue(write(folder, [RAW | {"asin": asin, "pricing": "$10 - $20"} for asin in asins]))
    prices = [catalogue.price(index) for index in range(20)]
    assert all(10 <= price < 20 for price in prices)
    assert len(set(prices)) == 20
    assert min(prices) < 13 < 17 < max(prices)
    assert only(folder, asin=asins[3], pricing="$10 - $20").price == prices[3]
    # A range may be listed the wrong way round.
    assert 10 < only(folder, pricing="$20 - $10").price <= 20


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        *((({key: ...}), f"{key} is not a") for key in ("asin", "name", "full_description", "category", "query")),
        ({"product_category": 7}, "product_category is not a text"),
        ({"small_description": ...}, "small_description is not a list of texts"),
        ({"small_description": [None]}, "small_description is not a list of texts"),
        ({"small_description": []}, "small_description is empty"),
        ({"images": []}, "images is not a list of addresses"),
        ({"images": ...}, "images is not a list of addresses"),
        ({"pricing": "9.99"}, "pricing has no dollar sign"),
        ({"pricing": "$"}, "pricing has a dollar sign without a number"),
        ({"pricing": "$1.299.00"}, "pricing has a dollar sign without a number"),
        ({"pricing": 9.99}, "pricing is not a text"),
        ({"customization_options": ["red"]}, "customization_options is not an object"),
        ({"customization_options": {"color": "red"}}, "an option is not a list of values"),
        ({"customization_options": {"color": [{"image": ""}]}}, "value is not a text"),
        ({"customization_options": {"color": ["red"]}}, "value is not a text"),
        ({"asin": "nan"}, "asin is 'nan' or longer than 10 characters"),
        ({"asin": "B0000000001"}, "asin is 'nan' or longer than 10 characters"),
        ({"asin": "GOOD000000"}, "asin occurred before"),
    ],
)
def test_unusable_products_are_left_out_and_counted(folder, changes, reason):
    broken = {key: value for key, value in (RAW | changes).items() if value is not ...}
    write(folder, [RAW | {"asin": "GOOD000000"}, broken, RAW | {"asin": "GOOD000001"}])
    catalogue = open_catalogue(folder)
    assert [catalogue.product(index).asin for index in range(len(catalogue))] == ["GOOD000000", "GOOD000001"]
    (counted,) = catalogue.skipped.items()
    assert counted[0].startswith(reason)
    assert counted[1] == 1


def test_elements_that_are_no_objects_are_left_out(folder):
    catalogue = open_catalogue(write(folder, [None, 3, "x", [RAW], RAW]))
    assert len(catalogue) == 1
    assert catalogue.skipped == {"asin is not a text": 4}


def test_entries_of_the_other_files_may_be_unusable_too(folder):
    person = {"instruction": "shoes", "instruction_attributes": ["light"], "instruction_options": []}
    others = {"B000000002": 5, "B000000003": {"attributes": "rubber"}, "B000000004": {"instruction": 3}}
    people = {"B000000001": [{"instruction": "?"}, 4, person]}
    write(folder, [RAW | {"asin": f"B00000000{number}"} for number in range(1, 5)], others, people)
    catalogue = open_catalogue(folder)
    assert len(catalogue) == 1
    assert [human.text for human in catalogue.product(0).human_instructions] == ["shoes"]
    assert sum(catalogue.skipped.values()) == 5
    assert catalogue.skipped["human instruction: instruction_attributes is not a list of texts"] == 1


def test_num_products_counts_before_anything_is_left_out(folder):
    write(folder, [RAW, RAW, RAW | {"asin": "B000000002"}, RAW | {"asin": "B000000003"}])
    assert len(open_catalogue(folder)) == 3
    assert len(open_catalogue(folder, num_products=3)) == 2
    assert len(open_catalogue(folder, num_products=100)) == 3
    with pytest.raises(ValueError, match="num_products must be positive, got 0"):
        open_catalogue(folder, num_products=0)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "{}", '"x"', "null", "[", "[1", "[1,", '[{"asin": "B0', "[1,]", "[1 2]", "[1] 2", "[1]]", "[,1]",
        "[nul]", "[" * 100_000, "\x00", "[1}",
    ],
)  # fmt: skip
def test_files_that_are_no_array_are_errors_that_name_them(folder, text):
    write(folder, text)
    with pytest.raises(GameFormatError, match=r"items_shuffle\.json is damaged"):
        open_catalogue(folder)


def test_files_without_a_usable_product_say_why(folder):
    with pytest.raises(GameFormatError, match=r"no usable product in .*it is empty"):
        open_catalogue(write(folder, []))
    with pytest.raises(GameFormatError, match=r"no usable product in .*asin is not a text: 2"):
        open_catalogue(write(folder, [1, 2]))
    assert not list((folder.parent / "cache" / "webshop").glob(".unfinished*"))


def test_a_damaged_attribute_file_is_named(folder):
    write(folder, [RAW])
    for text in ("[]", '{"a": 1', '{"a" 1}', "{1: 2}", ""):
        (folder / "items_ins_v2.json").write_text(text)
        with pytest.raises(GameFormatError, match=r"items_ins_v2\.json is damaged"):
            open_catalogue(folder)


def test_compressed_files_are_read_and_broken_ones_named(folder):
    write(folder, [RAW])
    packed = gzip.compress((folder / "items_shuffle.json").read_bytes())
    (folder / "items_shuffle.json").unlink()
    path = folder / "items_shuffle.json.gz"
    path.write_bytes(packed)
    assert len(open_catalogue(folder)) == 1
    flipped = bytearray(packed)
    flipped[len(packed) // 2] ^= 0xFF
    for content in (packed[:-20], packed[:5], b"", b"not gzip", bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(GameFormatError, match=r"items_shuffle\.json\.gz is damaged"):
            reopened(folder)


def test_files_in_another_encoding_are_named(folder):
    write(folder, [RAW])
    (folder / "items_shuffle.json").write_bytes(json.dumps([RAW], ensure_ascii=False).encode("latin-1", "ignore"))
    with pytest.raises(GameFormatError, match="damaged"):
        open_catalogue(folder)


def test_reading_piece_by_piece_gives_what_reading_at_once_does(folder, monkeypatch):
    values = [1, -2.5e3, 'a"\\\u00e9\u2028', None, True, [], {}, [[{"k": [1, 2]}]], "x" * 300, 12345678901234567890]
    path = folder / "values.json"
    for text in (json.dumps(values), json.dumps(values, indent=3), "\ufeff" + json.dumps(values) + "\n\r\t "):
        path.write_text(text, encoding="utf-8")
        for chunk in (1, 2, 3, 7, 64, 1 << 20):
            monkeypatch.setattr(official, "_CHUNK", chunk)
            assert list(official.stream_array(path)) == values
    path.write_text(json.dumps({str(number): value for number, value in enumerate(values)}, indent=1))
    for chunk in (1, 5, 1 << 20):
        monkeypatch.setattr(official, "_CHUNK", chunk)
        assert [json.loads(text) for _, text in official.stream_object(path)] == values


def test_a_file_that_never_ends_an_element_is_given_up_on(folder, monkeypatch):
    monkeypatch.setattr(official, "_CHUNK", 1000)
    monkeypatch.setattr(official, "_LARGEST", 5000)
    path = folder / "values.json"
    path.write_text('["' + "x" * 100_000 + '"]')
    with pytest.raises(GameFormatError, match="damaged"):
        list(official.stream_array(path))


def test_files_are_found_by_their_endings(folder):
    write(folder, [RAW], ending="_1000")
    write(folder, [RAW, RAW | {"asin": "B000000002"}])
    (folder / "items_ins_v2_1000.json").write_text(json.dumps({"B000000001": {"attributes": ["small"]}}))
    assert open_catalogue(folder / "items_shuffle_1000.json").product(0).attributes == ("small",)
    assert open_catalogue(folder, num_products=1000).product(0).attributes == ("small",)
    assert len(open_catalogue(folder, num_products=2)) == 2  # the first two of the whole file
    assert len(open_catalogue(folder.parent, num_products=2)) == 2  # the checkout, whose folder is called data
    with pytest.raises(GameFormatError, match=r"several product files .*items_shuffle_1000\.json.*num_products"):
        open_catalogue(folder)
    # Files of the whole set serve the small one.
    (folder / "items_ins_v2_1000.json").unlink()
    assert reopened(folder, num_products=1000).product(0).attributes == ("DUMMY_ATTR",)


def test_missing_files_are_named(folder):
    with pytest.raises(DataNotFoundError, match="no items_shuffle"):
        open_catalogue(folder)
    with pytest.raises(DataNotFoundError, match="no file or folder"):
        open_catalogue(folder / "nothing")
    write(folder, [RAW])
    (folder / "items_ins_v2.json").unlink()
    with pytest.raises(DataNotFoundError, match=r"no items_ins_v2\.json"):
        open_catalogue(folder)


def test_an_opened_catalogue_is_shared(folder):
    write(folder, [RAW, RAW | {"asin": "B000000002", "pricing": "$1 - $2"}])
    catalogue = open_catalogue(folder)
    assert open_catalogue(str(folder)) is catalogue
    assert copy.deepcopy(catalogue) is catalogue
    again = pickle.loads(pickle.dumps(catalogue))
    assert again.fingerprint == catalogue.fingerprint
    assert pickle.loads(pickle.dumps(again)) is again
    assert catalogue.product(1) is catalogue.product(1)
    assert catalogue.price(1) == catalogue.product(1).price


def test_products_are_found_by_asin(folder):
    asins = ["C987654321", "B000000001", "b000000001", "A", "ÄÖ", "Z" * 10]
    catalogue = open_catalogue(write(folder, [RAW | {"asin": asin} for asin in asins]))
    in_memory = catalogue_of(map(catalogue.product, range(6)), "copy")
    for products in (catalogue, in_memory):
        assert [products.index(asin) for asin in asins] == list(range(6))
        for asin in ("B00000000", "B000000002", "", "ZZZZZZZZZZZ", "nan"):
            with pytest.raises(UnknownNameError, match="among the 6 of"):
                products.index(asin)
        with pytest.raises(UnknownNameError, match="did you mean 'B000000001'"):
            products.index("B000000002")
        for index in (-1, 6):
            with pytest.raises(IndexError):
                products.product(index)


def test_a_catalogue_in_memory_equals_the_one_on_disk(folder):
    people = {"B000000002": [{"instruction": "x", "instruction_attributes": ["light"], "instruction_options": []}]}
    about = {"B000000001": {"instruction": "y", "instruction_attributes": ["light"]}}
    write(folder, [RAW, RAW | {"asin": "B000000002"}], about, people)
    on_disk = open_catalogue(folder)
    in_memory = catalogue_of([on_disk.product(0), on_disk.product(1)], "copy")
    assert in_memory.fingerprint == on_disk.fingerprint
    assert list(in_memory.with_instruction) == list(on_disk.with_instruction) == [0]
    assert list(in_memory.with_human_instructions) == list(on_disk.with_human_instructions) == [1]
    assert list(in_memory.documents()) == list(on_disk.documents())
    assert pickle.loads(pickle.dumps(in_memory)).fingerprint == on_disk.fingerprint
    assert catalogue_of([on_disk.product(1), on_disk.product(0)], "copy").fingerprint != on_disk.fingerprint


def test_a_catalogue_needs_products_with_different_asins(folder):
    product = only(folder)
    with pytest.raises(ValueError, match="at least one product"):
        catalogue_of([], "empty")
    with pytest.raises(ValueError, match="different asins"):
        catalogue_of([product, product], "twice")


def test_records_keep_half_a_surrogate_pair(folder):
    product = only(folder, name="\ud83d shoe \x00", pricing="$" + "9" * 400)
    assert product.title == "\ud83d shoe \x00"
    assert product.pricing == (float("inf"),)
    assert product_of(product_record(product)) == product


# The cache


def caches(folder) -> list[Path]:
    return [path for path in (folder.parent / "cache" / "webshop").iterdir() if path.name != "hashes"]


def test_files_are_read_once_and_again_when_their_content_changes(folder, monkeypatch):
    write(folder, [RAW])
    fingerprint = reopened(folder).fingerprint

    def refuse(*arguments):
        raise AssertionError("read again")

    with monkeypatch.context() as patch:
        patch.setattr(cache, "ProductReader", refuse)
        assert reopened(folder).fingerprint == fingerprint
        # Neither the place nor the time counts, only the content.
        elsewhere = shutil.copytree(folder, folder.parent / "elsewhere")
        assert reopened(elsewhere).fingerprint == fingerprint
        (folder / "items_ins_v2.json").write_text('{"B000000001": {"attributes": ["new"]}}')
        with pytest.raises(AssertionError, match="read again"):
            reopened(folder)
    assert reopened(folder).product(0).attributes == ("new",)
    assert len(caches(folder)) == 2


def test_files_are_hashed_once_while_their_size_and_time_stay(folder, monkeypatch):
    write(folder, [RAW])
    reopened(folder)
    hashed = []
    # A file that is read to be hashed gets a progress bar, which shows where that takes long.
    bar = search_cache.tqdm
    monkeypatch.setattr(search_cache, "tqdm", lambda *given, **more: hashed.append(given) or bar(*given, **more))
    reopened(folder)
    assert not hashed
    os.utime(folder / "items_shuffle.json", ns=(1, 1))
    reopened(folder)
    assert len(hashed) == 1


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("meta.json", "null"), ("meta.json", "cut"), ("meta.json", "gone"),
        ("records.jsonl", "cut"), ("records.jsonl", "empty"), ("records.jsonl", "altered"),
        ("asins.npy", "altered"), ("offsets.npy", "gone"), ("human.npy", "empty"),
    ],
)  # fmt: skip
def test_a_damaged_cache_is_written_anew(folder, name, damage):
    write(folder, [RAW | {"asin": f"B{number:09}"} for number in range(20)])
    before = [reopened(folder).product(index) for index in range(20)]
    (place,) = caches(folder)
    path = place / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "null":
        path.write_text("null")
    elif damage == "altered":
        path.write_bytes(content[: len(content) // 2] + b"\x00x" + content[len(content) // 2 + 2 :])
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    catalogue = reopened(folder)
    # Records are checked when they are read, all else when the cache is opened.
    assert (path.read_bytes() == content) == ((name, damage) != ("records.jsonl", "altered"))
    assert [catalogue.product(index) for index in range(20)] == before
    assert path.read_bytes() == content
    assert [path.name for path in caches(folder)] == [place.name]


def test_processes_that_write_at_the_same_time_end_up_with_one_cache(folder):
    write(folder, [RAW | {"asin": f"B{number:09}"} for number in range(300)])
    code = (
        "import sys; from agentgym_prm.envs.webshop.catalog import open_catalogue as o;"
        "c = o(sys.argv[1]); print(len(c), c.product(299).asin, c.fingerprint)"
    )
    commands = [subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE, text=True) for _ in "ab"]
    outputs = {command.communicate()[0] for command in commands}
    assert [command.returncode for command in commands] == [0, 0]
    assert len(outputs) == 1
    assert outputs.pop().startswith("300 B000000299 ")
    assert len(caches(folder)) == 1


def test_a_cache_that_another_process_finished_first_is_taken(folder, monkeypatch):
    write(folder, [RAW])
    rename = cache._rename

    def late(unfinished, target):
        shutil.copytree(unfinished, target)
        rename(unfinished, target)

    monkeypatch.setattr(cache, "_rename", late)
    assert len(reopened(folder)) == 1
    assert len(caches(folder)) == 1


def test_threads_that_repair_at_the_same_time_do_not_collide(folder):
    write(folder, [RAW | {"asin": f"B{number:09}"} for number in range(50)])
    files = official.find_files(folder, None)
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(lambda number: cache.product_cache(files, None, rewrite=number % 2 == 0), range(24)))
    assert len({each.fingerprint for each in written}) == 1
    assert all(each.record(49) is not None for each in written)
    assert len(caches(folder)) == 1


def test_a_write_that_fails_leaves_nothing_behind(folder, monkeypatch):
    write(folder, [RAW])

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(cache, "_save", fail)
        with pytest.raises(OSError, match="No space left"):
            reopened(folder)
    assert caches(folder) == []
    assert len(reopened(folder)) == 1


def test_without_permission_products_are_kept_in_a_temporary_folder(folder, monkeypatch, caplog):
    write(folder, [RAW])
    (folder.parent / "file").write_text("")
    mkdir = Path.mkdir

    def refuse(path, *arguments, **options):
        if (folder.parent / "cache") in path.parents:
            raise PermissionError(13, "Permission denied", str(path))
        mkdir(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert len(reopened(folder)) == 1
    assert "only for this process" in caplog.text


def test_abandoned_writes_are_removed_after_a_day(folder):
    old, young = (folder.parent / "cache" / "webshop" / f".unfinished-{name}" for name in ("old", "young"))
    for path in (old, young):
        path.mkdir(parents=True)
    os.utime(old, (0, 0))
    reopened(write(folder, [RAW]))
    assert not old.exists()
    assert young.exists()


def test_the_cache_is_where_the_variables_say(monkeypatch):
    monkeypatch.setenv("AGENTGYM_PRM_CACHE", "/a/b")
    assert cache.cache_folder() == Path("/a/b")
    monkeypatch.delenv("AGENTGYM_PRM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    assert cache.cache_folder() == Path("/c/agentgym_prm")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_folder() == Path("~/.cache/agentgym_prm").expanduser()


# The benchmark's own data


def recorded_form(product):
    options = {name: list(values) for name, values in product.options.items()}
    texts = [product.title, product.description, list(product.bullet_points), product.category, product.query]
    shown = [product.product_category, list(product.pricing), product.price_tag, options, dict(product.option_images)]
    # The original has None where there is no instruction.
    wanted = list(product.instruction_attributes) if product.instruction is not None else None
    return [product.asin, *texts, *shown, list(product.attributes), product.image, product.instruction, wanted]


def test_real_products_are_the_originals(real, original):
    assert real.skipped == {}
    assert [digest(recorded_form(real.product(index))) for index in range(len(real))] == original["products"]


def test_documents_are_what_the_original_indexes(real, shop_folder):
    documents = json.loads(gzip.decompress((shop_folder / "lucene_documents_1000.json.gz").read_bytes()))
    assert [real.product(index).asin for index in range(len(real))] == [document["id"] for document in documents]
    assert list(real.documents()) == [document["contents"] for document in documents]


def test_the_fingerprint_of_the_real_products_is_pinned(real, shop_folder, tmp_path):
    # It changes with the cleaning or the form of a record; ``cache._FORMAT`` has to be raised then.
    assert real.fingerprint == "7bf3a18da05ebd506796ef21b2c8104bf407c2638a09226301c74c64ac7af2a0"
    assert cache._FORMAT == 1
    plain = tmp_path / "items_shuffle_1000.json"
    plain.write_bytes(gzip.decompress((shop_folder / "items_shuffle_1000.json.gz").read_bytes()))
    for name in ("items_ins_v2_1000.json", "items_human_ins_1000.json"):
        shutil.copy(shop_folder / name, tmp_path)
    assert open_catalogue(tmp_path).fingerprint == real.fingerprint
