"""Engine and scopes. A *scope* is one database transaction bound to one tenant (or to none, for tables that have no tenant).

Row-level security compares each row's ``tenant`` with the setting ``app.tenant``, which lives as long as the scope. A scope without a
tenant sees no tenant's rows: forgetting it fails closed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from qcos.base.errors import Unavailable

metadata = sa.MetaData(schema="qcos")


def make_engine(url: str, *, pool_size: int = 10, application: str = "qcos") -> sa.Engine:
    """Return an engine on ``postgresql+psycopg://``; READ COMMITTED, no autocommit anywhere."""
    return sa.create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10,
        pool_reset_on_return="rollback",
        query_cache_size=2000,
        connect_args={
            "application_name": application,
            "connect_timeout": 5,
            "prepare_threshold": 2,
            # Our statements differ in values only and find their rows by key: planning them once saves a third of the server's time, and
            # a plan made while a table was empty must not read all of it when it has grown.
            "options": "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off",
        },
    )


@contextlib.contextmanager
def scope(engine: sa.Engine, tenant: UUID | None) -> Iterator[sa.Connection]:
    """Open a scope bound to a tenant: commit at the end, roll back on any error.

    Raises:
        Unavailable: ``database.unavailable`` when the server is gone or has no free connection; nothing of the scope was kept, unless
            the connection broke during the commit itself, which idempotency keys and compare-and-set make safe to repeat.
    """
    try:
        with engine.begin() as connection:
            if tenant is not None:
                bind_tenant(connection, tenant)
            yield connection
    except (OperationalError, InterfaceError, sa.exc.TimeoutError) as error:
        raise _unavailable(error) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise _unavailable(error) from error
        raise


def bind_tenant(connection: sa.Connection, tenant: UUID) -> None:
    """Bind the rest of the scope to a tenant (ends with the scope)."""
    connection.exec_driver_sql("select set_config('app.tenant', %s, true)", (str(tenant),))


def _unavailable(error: Exception) -> Unavailable:
    return Unavailable(
        "database.unavailable",
        "the database does not answer",
        got=str(getattr(error, "orig", error)).splitlines()[0][:200] if str(error) else type(error).__name__,
        hint="nothing was changed; try again",
        retry_after_s=1.0,
    )
