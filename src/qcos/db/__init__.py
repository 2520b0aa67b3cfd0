"""The database ground: engine, scopes with a tenant, row-level security, migrations, the embedded PostgreSQL."""
