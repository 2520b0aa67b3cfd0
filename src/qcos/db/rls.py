"""Row-level security of a table, as statements for a migration."""

from __future__ import annotations

APP_ROLE = "qcos_app"


def protect(table: str, *, grants: str = "select, insert, update, delete") -> list[str]:
    """Return the statements that make a table of schema ``qcos`` visible only to the tenant of the scope.

    The table has a column ``tenant uuid``. ``nullif`` is needed: after a scope the setting is ``''``, not null. The sub-select is
    evaluated once a query.
    """
    test = "tenant = (select nullif(current_setting('app.tenant', true), '')::uuid)"
    return [
        f"alter table qcos.{table} enable row level security",
        f"alter table qcos.{table} force row level security",
        f"create policy {table}_tenant on qcos.{table} using ({test}) with check ({test})",
        *grant(table, grants),
    ]


def grant(table: str, grants: str = "select, insert, update, delete") -> list[str]:
    """Return the statement that lets the application's role use a table; append-only tables are granted ``select, insert``."""
    return [f"grant {grants} on qcos.{table} to {APP_ROLE}"]


def over_all_tenants(statement: str, *tables: str) -> list[str]:
    """Return the statements that run one over the rows of all tenants, in protected tables.

    Row-level security binds the owner too, who sees no row outside a scope, and who need not be a superuser: for the migration's
    transaction it does not, and others wait for its locks.
    """
    return [
        *(f"alter table qcos.{table} no force row level security" for table in tables),
        statement,
        *(f"alter table qcos.{table} force row level security" for table in tables),
    ]
