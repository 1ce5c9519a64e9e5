"""The Casbin model, the packs of rules, and the engine that loads and evaluates them."""
