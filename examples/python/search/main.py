"""A search index as a view: products of a shop in Tantivy, through its official
Python package. `pip install tantivy`, then `python main.py [FOLDER]`.

A search engine has no transaction to save a checkpoint in, so events may reach it
more than once. Each document carries the position of the event that wrote it last as
its external version: what is older than that is passed over, as Elasticsearch does
with `version_type=external`. So a repetition changes nothing.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tantivy

from orkestra import Event, Orkestra

if TYPE_CHECKING:
    from orkestra import Checkpoint, RecordedEvent


class ProductListed(Event, type_name="Shop.Products.Events.ProductListed"):
    product_id: str
    name: str
    price: int


class PriceChanged(Event, type_name="Shop.Products.Events.PriceChanged"):
    product_id: str
    price: int


class ProductWithdrawn(Event, type_name="Shop.Products.Events.ProductWithdrawn"):
    product_id: str


def schema() -> tantivy.Schema:
    """One document for each product; a withdrawn one stays as a mark."""
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("product_id", stored=True, tokenizer_name="raw")
    builder.add_text_field("name", stored=True)
    builder.add_unsigned_field("price", stored=True)
    builder.add_unsigned_field("version", stored=True)
    return builder.build()


class Catalogue:
    """The index in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, suffix: str = "") -> tantivy.Index:
        """The live index, or the one that is built beside it."""
        path = self._path(suffix)
        path.mkdir(parents=True, exist_ok=True)
        return tantivy.Index(schema(), path=str(path))

    def empty(self, suffix: str) -> None:
        """Makes an index that has nothing in it."""
        shutil.rmtree(self._path(suffix), ignore_errors=True)
        self.open(suffix)

    def switch(self, suffix: str) -> None:
        """Puts the index built beside the live one in its place."""
        old = self._path("_old")
        shutil.rmtree(old, ignore_errors=True)
        self.folder.rename(old)
        self._path(suffix).rename(self.folder)
        shutil.rmtree(old)

    def finish_switch(self, suffix: str = "_rebuild") -> None:
        """Does the rest of a switch whose process ended between the two renames."""
        if self._path("_old").exists() and not self.folder.exists():
            self._path(suffix).rename(self.folder)

    def _path(self, suffix: str) -> Path:
        return self.folder.with_name(self.folder.name + suffix)

    def write(self, events: list[RecordedEvent], suffix: str = "") -> int:
        """Brings events into the index in one commit; returns how many were new."""
        index = self.open(suffix)
        changed: dict[str, dict[str, Any]] = {}
        count = 0
        for recorded in events:
            event = recorded.event
            product_id = event.product_id
            product = changed.get(product_id) or _stored(index, product_id)
            # The external version: it has this event already, and later ones perhaps.
            if product["version"] >= recorded.position:
                continue
            changed[product_id] = _after(product, event) | {
                "version": recorded.position
            }
            count += 1
        writer = index.writer()
        for product_id, product in changed.items():
            writer.delete_documents_by_term("product_id", product_id)
            writer.add_document(tantivy.Document.from_dict(product, schema()))
        writer.commit()
        writer.wait_merging_threads()
        return count

    def search(self, text: str) -> list[tuple[str, int]]:
        """Names and prices of the products that match, the best first."""
        index = self.open()
        index.reload()
        searcher = index.searcher()
        found = searcher.search(index.parse_query(text, ["name"]), 10).hits
        documents = [searcher.doc(address).to_dict() for _, address in found]
        return [(doc["name"][0], doc["price"][0]) for doc in documents]


def _stored(index: tantivy.Index, product_id: str) -> dict[str, Any]:
    index.reload()
    searcher = index.searcher()
    query = tantivy.Query.term_query(index.schema, "product_id", product_id)
    for _, address in searcher.search(query, 1).hits:
        return {k: v[0] for k, v in searcher.doc(address).to_dict().items()}
    return {"product_id": product_id, "version": 0}


def _after(product: dict[str, Any], event: Event) -> dict[str, Any]:
    match event:
        case ProductListed():
            return product | {"name": event.name, "price": event.price}
        case PriceChanged():
            return product | {"price": event.price}
        case _:
            # Nothing to find any more, and the version is kept.
            return {"product_id": product["product_id"]}


def shop(folder: Path, store: str) -> tuple[Orkestra, Catalogue]:
    """The app, and the index that its projection keeps."""
    app = Orkestra("shop", store=store)
    catalogue = Catalogue(folder)

    @app.projection("search", events=[ProductListed, PriceChanged, ProductWithdrawn])
    def search(events: list[RecordedEvent], checkpoint: Checkpoint) -> None:
        catalogue.write(events, checkpoint.suffix)

    @search.prepare
    def prepare(checkpoint: Checkpoint) -> None:
        if checkpoint.suffix:
            catalogue.empty(checkpoint.suffix)
        else:
            catalogue.finish_switch()

    @search.switch
    def switch(checkpoint: Checkpoint) -> None:
        catalogue.switch(checkpoint.suffix)

    return app, catalogue


async def main(folder: Path) -> None:
    """Lists products, looks for some, and builds the index anew."""
    app, catalogue = shop(folder / "index", f"sqlite:{folder / 'shop.db'}")
    async with app:
        events = [
            ProductListed(product_id="1", name="red running shoes", price=90),
            ProductListed(product_id="2", name="blue running shoes", price=80),
            ProductListed(product_id="3", name="red umbrella", price=25),
            PriceChanged(product_id="1", price=70),
            ProductWithdrawn(product_id="2"),
        ]
        appended = await app.store.append("products", events)
        assert appended.position is not None
        await app.caught_up("search", appended.position)
        print("shoes:", catalogue.search("shoes"))
        print("red:", sorted(catalogue.search("red")))

        # Everything once more, as after a crash before the acknowledgement.
        log = [recorded async for recorded in app.store.read_all()]
        print("new on repetition:", catalogue.write(log))
        print("shoes:", catalogue.search("shoes"))

        progress = await app.rebuild("search")
        print("rebuilt from", progress.handled, "events")
        print("shoes:", catalogue.search("shoes"))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(Path(sys.argv[1])))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            asyncio.run(main(Path(temporary)))
