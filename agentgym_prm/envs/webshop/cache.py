"""Cleaned products on disk: written once, mapped into memory, whole or not there.

A cache is a folder: ``records.jsonl`` with a product a line, five small arrays beside it, and ``meta.json``, which
states sizes and check sums. Its name is made of the content of the files that it was read from, so it never goes stale.
"""

import errno
import hashlib
import json
import logging
import mmap
import shutil
import tempfile
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from tqdm import tqdm

from agentgym_prm.envs.webshop.official import ProductReader, ShopFiles
from agentgym_prm.envs.webshop.product import product_record
from agentgym_prm.errors import GameFormatError
from agentgym_prm.search.cache import cache_folder, content_hash

_FORMAT: Final = 1
"""To be raised with every change to the cleaning, to the form of a record or to the layout."""
_ARRAYS: Final = ("asins", "order", "offsets", "checksums", "human", "synthetic")
_UNFINISHED: Final = ".unfinished-"
_ATTEMPTS: Final = 8
"""A cache may be missing for a moment while another process replaces it."""
_ABANDONED_AFTER_S: Final = 24 * 3600
_logger = logging.getLogger(__name__)


class ProductCache:
    """A cache that is whole.

    Attributes:
        folder: Where it lies.
        fingerprint: SHA-256 of the records.
        skipped: What was left out when it was written, by reason.
        asins_N: The products' ids, ``U10``.
        order_N: Their indices, sorted by id.
        checksums_N: CRC-32 of each record.
        human_N: Indices of the products with human instructions (not one a product).
        synthetic_N: Indices of the products with an instruction for synthetic goals.
    """

    def __init__(self, folder: Path) -> None:
        meta = json.loads((folder / "meta.json").read_bytes())
        for name, (size, checksum) in meta["arrays"].items():
            content = (folder / name).read_bytes()
            if len(content) != size or zlib.crc32(content) != checksum:
                raise ValueError(f"{name} is damaged")
        if (folder / "records.jsonl").stat().st_size != meta["size"]:
            raise ValueError("records.jsonl is cut off")
        self.folder = folder
        self.fingerprint: str = meta["fingerprint"]
        self.skipped: Mapping[str, int] = meta["skipped"]
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
        self.asins_N, self.order_N, self.checksums_N = arrays["asins"], arrays["order"], arrays["checksums"]
        self.human_N, self.synthetic_N = arrays["human"], arrays["synthetic"]
        self._offsets = arrays["offsets"]
        with (folder / "records.jsonl").open("rb") as file:
            self._records = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def record(self, index: int) -> bytes | None:
        """A product's record; ``None`` if it was altered on disk."""
        record = self._records[int(self._offsets[index]) : int(self._offsets[index + 1])]
        return record if zlib.crc32(record) == self.checksums_N[index] else None


def product_cache(files: ShopFiles, num_products: int | None, rewrite: bool = False) -> ProductCache:
    """The cache of these files' first ``num_products`` elements; written if it is not there or damaged.

    Args:
        files: What to read.
        num_products: ``None`` for all.
        rewrite: Write it even if it looks whole.

    Raises:
        GameFormatError: A file is damaged, or no product is left.
        OSError: It cannot be written, for another reason than lacking permission (then a temporary folder is used).
    """
    key = _key(files, num_products)
    folder = cache_folder() / "webshop" / key
    for attempt in range(_ATTEMPTS):
        if attempt or not rewrite:
            # Whatever is wrong with it, it is written anew.
            with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
                return ProductCache(folder)
        try:
            _write(folder, files, num_products)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            folder = Path(_temporary_folder().name) / key
            _logger.warning("%s: the products are kept in %s, and only for this process", error, folder)
            _write(folder, files, num_products)
    return ProductCache(folder)


@cache
def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="agentgym_prm-")


def _key(files: ShopFiles, num_products: int | None) -> str:
    roles = {"products": files.products, "attributes": files.attributes, "human": files.human}
    content = {role: content_hash(path, cache_folder() / "webshop" / "hashes") for role, path in roles.items() if path}
    return hashlib.sha256(json.dumps([_FORMAT, num_products, content]).encode()).hexdigest()[:32]


def _write(folder: Path, files: ShopFiles, num_products: int | None) -> None:
    """Write a cache beside ``folder`` and move it there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder.parent)
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=folder.parent, ignore_cleanup_errors=True) as place:
        unfinished, old = Path(place) / "new", Path(place) / "old"
        unfinished.mkdir()
        _write_products(unfinished, files, num_products)
        with suppress(FileNotFoundError):
            folder.rename(old)
        # A process that wrote the same at the same time may have been faster: its cache is as good.
        with suppress(FileExistsError):
            _rename(unfinished, folder)


def _rename(source: Path, target: Path) -> None:
    """Rename a folder; ``FileExistsError`` if there is one of that name."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:
            raise FileExistsError(error.errno, str(error)) from error
        raise


def _remove_abandoned(parent: Path) -> None:
    for path in parent.glob(f"{_UNFINISHED}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S:
                shutil.rmtree(path)


def _write_products(folder: Path, files: ShopFiles, num_products: int | None) -> None:
    reader = ProductReader(files, num_products)
    digest = hashlib.sha256()
    asins, offsets, checksums = [], [0], []
    human, synthetic = [], []
    with (folder / "records.jsonl").open("wb") as records:
        products = tqdm(
            reader, f"reading {files.products.name}", num_products, leave=False, unit=" products", disable=None
        )
        for index, product in enumerate(products):
            record = product_record(product) + b"\n"
            records.write(record)
            digest.update(record)
            asins.append(product.asin)
            offsets.append(offsets[-1] + len(record))
            checksums.append(zlib.crc32(record))
            if product.human_instructions:
                human.append(index)
            if product.instruction is not None:
                synthetic.append(index)
    if not asins:
        reasons = "; ".join(f"{reason}: {count:,}" for reason, count in reader.skipped.items()) or "it is empty"
        raise GameFormatError(f"no usable product in {files.products} ({reasons})")
    asins_N = np.array(asins, dtype="U10")
    arrays = {
        "asins": asins_N,
        "order": np.argsort(asins_N, kind="stable").astype(np.int32),
        "offsets": np.array(offsets, dtype=np.int64),
        "checksums": np.array(checksums, dtype=np.uint32),
        "human": np.array(human, dtype=np.int32),
        "synthetic": np.array(synthetic, dtype=np.int32),
    }
    meta: dict[str, Any] = {"fingerprint": digest.hexdigest(), "skipped": reader.skipped, "size": offsets[-1]}
    meta["arrays"] = {f"{name}.npy": _save(folder / f"{name}.npy", array) for name, array in arrays.items()}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")


def _save(path: Path, array: np.ndarray) -> tuple[int, int]:
    np.save(path, array)
    content = path.read_bytes()
    return len(content), zlib.crc32(content)
