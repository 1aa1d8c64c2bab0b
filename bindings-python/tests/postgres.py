"""PostgreSQL for the tests: a database for each, in the server that a run shares."""

from __future__ import annotations

import os
import uuid
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

SERVER = os.environ.get("ORKESTRA_TEST_POSTGRES")
FOLDER = os.environ.get("ORKESTRA_TEST_POSTGRES_FOLDER")


def need_postgres() -> str:
    """Skips the test where there is no server; fails it where one is required."""
    if SERVER:
        return SERVER
    reason = "ORKESTRA_TEST_POSTGRES names no server"
    if "postgres" in os.environ.get("ORKESTRA_TEST_REQUIRE", "").split(","):
        pytest.fail(reason)
    pytest.skip(reason)


class Database:
    """An empty database of its own."""

    def __init__(self) -> None:
        server = need_postgres()
        self.name = f"python_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(server, autocommit=True) as connection:
            statement = f'CREATE DATABASE "{self.name}" TEMPLATE template0'
            connection.execute(statement.encode())
            # The tests' user has the name of our schema, which would come first.
            public = f'ALTER DATABASE "{self.name}" SET search_path = public'
            connection.execute(public.encode())
        self.url = urlsplit(server)._replace(path=f"/{self.name}").geturl()

    def drop(self) -> None:
        """Deletes it, whoever is connected."""
        with psycopg.connect(need_postgres(), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{self.name}" WITH (FORCE)'.encode())

    def sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """The rows of a statement, committed."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = psycopg.RawCursor(connection)
            cursor.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []
