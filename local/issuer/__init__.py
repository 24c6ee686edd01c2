"""An OpenID provider for this machine: two users, two plans, and tokens as those of the large providers."""
