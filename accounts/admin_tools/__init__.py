"""Parts of admin classes in all apps: mixins, filters, actions with confirmation, and CSV."""
