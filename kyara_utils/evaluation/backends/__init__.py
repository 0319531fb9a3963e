"""How a benchmark asks a model: endpoints, transformers in process, log-likelihoods."""
