"""From raw conversations to training sets: language, quality, duplicates, leaks, tags, selection, accounts.

Every filter is a pure function over a list of conversation rows and returns `(kept, rejects)`, so that the
step can prove that nothing disappeared.
"""
