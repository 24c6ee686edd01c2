"""The response cache: what may be kept, the items of its table and the objects of its bucket.

    <SHA-256 of a request>       an answer (`types.CachedItem`); its body too, unless `object` names what holds it
    lease#<the same>[#stream|…]  owner, lease_until, since, usual, stored_soon: who fetches an answer for all who wait
    captured/<client>/<ulid>     an object: a body that no item has room for

The proxy captures answers and reads them, store_response stores them, and `openai-proxy cache` shows and deletes them.
"""
