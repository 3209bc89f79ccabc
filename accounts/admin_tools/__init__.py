"""Parts that admin classes of every app are made of: mixins, filters, confirmed actions and CSV."""
