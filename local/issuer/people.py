"""Who can sign in on the local stack, and what `identity.yaml` says of them there. Pure."""

from typing import NamedTuple

CLIENT_ID = "playground"
"""The application that signs people in: a public client, as a page is."""
AUDIENCE = "openai-proxy"
"""Whom its access tokens are for."""


class Person(NamedTuple):
    """Who can sign in; the password is the name in small letters."""

    sub: str
    name: str
    tier: str

    @property
    def user_name(self) -> str:
        """What is typed as user name and as password."""
        return self.name.lower()


PEOPLE = (Person("user-ada", "Ada", "free"), Person("user-grace", "Grace", "pro"))


def identity_file(issuer: str) -> str:
    """The identity file of the local stack."""
    return f"""# The issuer of the local stack, and its two plans.
issuers:
  - issuer: {issuer}
    audience: {AUDIENCE}
    require: {{email_verified: true}}
    plans: {{claim: tier, pro: pro, default: free}}
plans:
  free: {{name: Free, servers: [demo], rpm: 20, parallel: 2, budget_day: 0.5}}
  pro: {{name: Pro, rpm: 600, parallel: 20, budget_day: 5, budget_month: 50}}
"""
