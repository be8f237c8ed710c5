"""The store in PostgreSQL keeps the contract of dialog stores, and what only it can."""

from __future__ import annotations

import pytest

from tchatd.stores.postgres.messaging import PostgresDialogStore
from tchatd.stores.postgres.pool import Pool
from tests.support.dialog_store import DialogStoreContract

pytestmark = pytest.mark.service


class TestPostgresDialogStore(DialogStoreContract):
    @pytest.fixture
    def store(self, pool: Pool) -> PostgresDialogStore:
        return PostgresDialogStore(pool)
