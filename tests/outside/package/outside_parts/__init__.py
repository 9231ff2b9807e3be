"""One part of each kind that a configuration can name, as another team would bring them."""
