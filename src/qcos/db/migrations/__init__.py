"""The schema's history, run by Alembic; one revision per capability in the first release."""
