"""Identity: tenants, projects, principals, their roles and API tokens (R11.4, R11.7, R11.8).

Everything above works on one value, `qcos.identity.model.Principal`. Today `qcos.identity.tokens` with
`qcos.identity.store` makes it, from an API token. Federation (OIDC, SAML 2.0, LDAP, SCIM: R11.1 to R11.3)
gets a module beside `tokens`, which turns an assertion into the same value; a principal's roles, attributes
and tenant then come from `store` as they do now.
"""
