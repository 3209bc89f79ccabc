"""The pages of a user's own account: settings, usage, data export, account deletion."""
