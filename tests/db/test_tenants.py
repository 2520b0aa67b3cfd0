"""Tenants cannot see each other, in any table (R10.1, law 7); migrations and code mean the same tables."""

from __future__ import annotations

import importlib
import pkgutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import qcos
from qcos.db.engine import metadata, scope

MINE, THEIRS = uuid.UUID(int=1), uuid.UUID(int=2)
DENIED = "42501"  # insufficient_privilege: by grant or by policy

# Tables that belong to no tenant, and what is in them.
SHARED = {
    "tenant": "which tenants there are: names and ids",
    "backend": "the installation's backends, the same for all",
    "backend_history": "how long and how well backends ran: sums, nobody's jobs",
    "ledger_entry": "hashes of salted records",
    "ledger_run": "which entries were numbered one after the other",
    "ledger_gap": "sequence numbers of entries that may still come",
    "ledger_node": "hashes over entries",
    "ledger_state": "size and root of the ledger",
    "ledger_checkpoint": "signed sizes and roots",
    "ledger_anchor": "public receipts, and signed transactions under way",
    "worm_copy": "names, digests and dates of copies; bundles by tenant and id",
    "worm_finding": "names of copies and what is wrong with them",
    "worm_round": "when copying last succeeded and failed, and why",
    "signing_key": "public halves of the installation's keys",
    "signing_key_state": "a counter of their changes",
    "trust_document": "public keys and what verifiers demand, as published, with signatures",
}

_TABLES = """
select c.relname as name, c.relrowsecurity as enabled, c.relforcerowsecurity as forced,
       pg_get_userbyid(c.relowner) as owner, t.attname is not null as has_tenant,
       exists (select from pg_index i
                where i.indrelid = c.oid and i.indisprimary and t.attnum = any(i.indkey)) as keyed
  from pg_class c
  left join pg_attribute t on t.attrelid = c.oid and t.attname = 'tenant' and not t.attisdropped
 where c.relnamespace = 'qcos'::regnamespace and c.relkind in ('r', 'p')
 order by c.relname"""
_COLUMNS = """
select a.attname as name, format_type(a.atttypid, null) as type,
       a.attidentity <> '' or a.attgenerated <> '' as made,
       has_column_privilege('qcos_app', a.attrelid, a.attnum, 'update') as updatable
  from pg_attribute a
 where a.attrelid = to_regclass(%(table)s) and a.attnum > 0 and not a.attisdropped order by a.attnum"""
_VALUES = {  # a value of each type, different for each row
    "text": "'x%(n)s'",
    "character varying": "'x%(n)s'",
    "uuid": "'00000000-0000-0000-0000-%(n)s00000000000'",
    "bigint": "%(n)s",
    "integer": "%(n)s",
    "smallint": "%(n)s",
    "numeric": "%(n)s",
    "double precision": "%(n)s",
    "boolean": "true",
    "jsonb": "'{\"n\": %(n)s}'",
    "json": "'{\"n\": %(n)s}'",
    "bytea": "'\\x0%(n)s'",
    "timestamp with time zone": "'2026-01-0%(n)s'",
    "date": "'2026-01-0%(n)s'",
    "text[]": "'{x%(n)s}'",
    "bigint[]": "'{%(n)s}'",
}


@dataclass(frozen=True)
class Table:
    """A table with a tenant column, and what the application's role may do with it."""

    name: str
    columns: tuple[str, ...]
    types: tuple[str, ...]
    updatable: tuple[str, ...]
    may_insert: bool
    may_delete: bool

    def insert(self, tenant: uuid.UUID, n: int) -> str:
        """A statement that inserts row n of a tenant."""
        values = (
            f"'{tenant}'" if c == "tenant" else f"({_VALUES[t] % {'n': n}})::{t}"
            for c, t in zip(self.columns, self.types, strict=True)
        )
        columns = ", ".join(map(_quoted, self.columns))
        return f"insert into qcos.{self.name} ({columns}) values ({', '.join(values)})"


def _quoted(name: str) -> str:
    return f'"{name}"'


@pytest.fixture
def admin(database: Any) -> Iterator[sa.Connection]:
    """The owner of the database, whom row-level security does not bind."""
    engine = sa.create_engine(database.admin_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        yield connection


@pytest.fixture
def tables(admin: sa.Connection) -> list[Table]:
    """Every tenant table with a row of each of two tenants; checks, references and triggers are off."""
    constraints = admin.exec_driver_sql(
        "select conrelid::regclass::text as name, conname from pg_constraint "
        "where connamespace = 'qcos'::regnamespace and contype in ('c', 'f')"
    ).all()
    for row in constraints:
        admin.exec_driver_sql(f"alter table {row.name} drop constraint {_quoted(row.conname)}")
    found = []
    for row in admin.exec_driver_sql(_TABLES).all():
        if not row.has_tenant:
            continue
        admin.exec_driver_sql(f"alter table qcos.{row.name} disable trigger user")
        columns = [c for c in admin.exec_driver_sql(_COLUMNS, {"table": f"qcos.{row.name}"}) if not c.made]
        may = [
            admin.exec_driver_sql(
                f"select has_table_privilege('qcos_app', 'qcos.{row.name}', '{act}')"
            ).scalar_one()
            for act in ("insert", "delete")
        ]
        updatable = tuple(c.name for c in columns if c.updatable)
        table = Table(
            row.name, tuple(c.name for c in columns), tuple(c.type for c in columns), updatable, *may
        )
        admin.exec_driver_sql(table.insert(MINE, 1).replace("%", "%%"))
        admin.exec_driver_sql(table.insert(THEIRS, 2).replace("%", "%%"))
        found.append(table)
    admin.commit()
    return found


def _count(connection: sa.Connection, table: Table) -> int:
    return connection.exec_driver_sql(f"select count(*) from qcos.{table.name}").scalar_one()


def _changed(connection: sa.Connection, statement: str) -> int | str:
    """Rows that a statement changes, or the state of the error it ends with; nothing stays changed."""
    point = connection.begin_nested()
    try:
        return connection.exec_driver_sql(statement).rowcount
    except sa.exc.DBAPIError as error:
        return str(getattr(error.orig, "sqlstate", error))
    finally:
        point.rollback()


def test_every_table_is_a_tenants_or_shared_for_a_stated_reason(admin: sa.Connection) -> None:
    """Law 7: a new table without tenant has to be put on the list above, with its reason."""
    tables = admin.exec_driver_sql(_TABLES).all()
    assert len(tables) > 10
    assert {t.name for t in tables if not t.has_tenant} <= SHARED.keys()
    assert not {t.name for t in tables if t.has_tenant} & SHARED.keys()


def test_row_level_security_is_on_for_every_tenants_table(admin: sa.Connection) -> None:
    """R10.1, law 7."""
    policies = admin.exec_driver_sql(
        "select tablename as name, qual, with_check, cmd from pg_policies where schemaname = 'qcos'"
    ).all()
    for table in admin.exec_driver_sql(_TABLES):
        if not table.has_tenant:
            continue
        mine = [p for p in policies if p.name == table.name]
        assert table.enabled and table.forced, table.name
        assert table.keyed, f"{table.name}: tenant is not part of the primary key"
        assert table.owner != "qcos_app", table.name
        assert len(mine) == 1 and mine[0].cmd == "ALL", table.name
        assert mine[0].qual == mine[0].with_check and "app.tenant" in mine[0].qual, table.name


def test_the_application_may_not_get_around_it(admin: sa.Connection) -> None:
    role = admin.exec_driver_sql("select * from pg_roles where rolname = 'qcos_app'").one()
    assert not (role.rolsuper or role.rolbypassrls or role.rolcreaterole or role.rolcreatedb)
    assert (
        admin.exec_driver_sql(
            "select count(*) from pg_class where pg_get_userbyid(relowner) = 'qcos_app'"
        ).scalar()
        == 0
    )
    members = "select count(*) from pg_auth_members where member = 'qcos_app'::regrole"
    assert admin.exec_driver_sql(members).scalar() == 0


def test_a_tenant_sees_its_own_rows_only(engine: sa.Engine, tables: list[Table]) -> None:
    """R10.1: of the two rows in every table, one."""
    for tenant in (MINE, THEIRS):
        with scope(engine, tenant) as connection:
            for table in tables:
                rows = connection.exec_driver_sql(f"select tenant from qcos.{table.name}").scalars().all()
                assert rows == [tenant], table.name


def test_without_a_tenant_there_is_nothing(engine: sa.Engine, tables: list[Table]) -> None:
    """Forgetting to bind a tenant fails closed, also on a connection that was bound before."""
    with scope(engine, None) as connection:
        assert {table.name: _count(connection, table) for table in tables} == {t.name: 0 for t in tables}
    with scope(engine, MINE) as connection:
        assert _count(connection, tables[0]) == 1
    with scope(engine, None) as connection:
        assert {table.name: _count(connection, table) for table in tables} == {t.name: 0 for t in tables}


def test_a_tenant_cannot_write_rows_of_another(
    engine: sa.Engine, admin: sa.Connection, tables: list[Table]
) -> None:
    """R10.1: insert, update, delete, and giving a row of one's own away."""
    with scope(engine, MINE) as connection:
        for table in tables:
            own, other = (f"qcos.{table.name} where tenant = '{t}'" for t in (MINE, THEIRS))
            if table.may_insert:
                assert _changed(connection, table.insert(MINE, 3)) == 1, table.name
            assert _changed(connection, table.insert(THEIRS, 3)) == DENIED, table.name
            if table.may_delete:
                assert _changed(connection, f"delete from {own}") == 1, table.name
            assert _changed(connection, f"delete from {other}") == (0 if table.may_delete else DENIED), (
                table.name
            )
            for column in map(_quoted, table.updatable or table.columns[-1:]):
                change = f"update qcos.{table.name} set {column} = {column} where tenant"
                if table.updatable:
                    assert _changed(connection, f"{change} = '{MINE}'") == 1, table.name
                got = _changed(connection, f"{change} = '{THEIRS}'")
                assert got == (0 if table.updatable else DENIED), table.name
            moved = _changed(connection, f"update qcos.{table.name} set tenant = '{THEIRS}'")
            assert moved == DENIED, table.name
            assert _changed(connection, f"truncate qcos.{table.name}") == DENIED, table.name


def _differences(admin: sa.Connection) -> list[Any]:  # Any: alembic's tuples, or lists of them for one column
    for module in pkgutil.walk_packages(qcos.__path__, "qcos."):
        found = module.module_finder.find_spec(module.name, None)  # type: ignore[call-arg]
        if found is not None and found.origin and "sa.Table(" in Path(found.origin).read_text():
            importlib.import_module(module.name)
    options = {
        "include_schemas": True,
        "include_name": lambda name, kind, parents: kind != "schema" or name == "qcos",
        "compare_type": True,
    }
    return list(compare_metadata(MigrationContext.configure(admin, opts=options), metadata))


def test_migrations_make_the_tables_that_the_code_describes(admin: sa.Connection) -> None:
    """All tables and columns with their types; and the indexes and references that the code describes.

    Indexes and references that only a migration makes are allowed: no query depends on their description.
    """
    only_in_migrations = {"remove_index", "remove_fk", "remove_constraint"}
    differences = [str(one) for one in _differences(admin) if one[0] not in only_in_migrations]
    assert not differences, "\n".join(differences)


def test_the_comparison_would_find_a_difference(admin: sa.Connection) -> None:
    admin.exec_driver_sql("alter table qcos.reservation add column surprise text")
    admin.exec_driver_sql("alter table qcos.charge alter column quantity type text")
    admin.exec_driver_sql("drop table qcos.usage")
    found = _differences(admin)
    assert any(one[0] == "remove_column" and one[3].name == "surprise" for one in found)
    assert any(one[0] == "add_table" and one[1].name == "usage" for one in found)
    changed = [one[0][:4] for one in found if isinstance(one, list)]
    assert ("modify_type", "qcos", "charge", "quantity") in changed
