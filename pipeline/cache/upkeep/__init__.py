"""Care of the cache: what is damaged, what nobody needs, what can be packed, and what a refactor left as it was."""
