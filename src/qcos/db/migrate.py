"""Bring a database to the schema of this release."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

_LOCK = 7_205_001  # advisory lock: two processes that start at once migrate one after the other


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def head() -> str:
    """Return the newest revision's id."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def migrate(admin_url: str, *, app_password: str | None = None, revision: str = "head") -> None:
    """Run all revisions that are missing, as the database's owner.

    Args:
        admin_url: SQLAlchemy URL of a role that may create roles and schemas.
        app_password: Password for the role ``qcos_app``; None leaves it as it is.
        revision: Where to stop; tests of upgrades use it.
    """
    engine = sa.create_engine(admin_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("select pg_advisory_lock(%s)", (_LOCK,))
        connection.commit()
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.commit()
        if app_password is not None:
            quoted = connection.exec_driver_sql("select quote_literal(%s)", (app_password,)).scalar_one()
            connection.exec_driver_sql(f"alter role qcos_app password {quoted}")
            connection.commit()
        connection.exec_driver_sql("select pg_advisory_unlock(%s)", (_LOCK,))
        connection.commit()
    engine.dispose()
