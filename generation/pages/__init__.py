"""What people see: the pages of the site, one room for each."""
