"""The offline report of a recipe: a folder of pages that need no network and no server (`write_report`)."""
