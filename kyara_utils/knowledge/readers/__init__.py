"""From files, dumps and Hub datasets to documents of bounded size, or reject rows that say why not."""
