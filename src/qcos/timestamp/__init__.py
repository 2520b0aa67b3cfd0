"""Time: RFC 3161 requests, tokens, the local authority that issues them, and their verification."""
