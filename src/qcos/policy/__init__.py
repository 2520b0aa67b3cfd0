"""Policy: Rego bundles, their checks, decisions and their records. Policy decides, code does not."""
