"""One module a benchmark, each registering itself; `registry.MODULES` lists them in the tables' order."""
